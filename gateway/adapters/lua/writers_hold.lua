-- Hold a tenant's memories for longer, or leave them, where this writer still holds them.
-- KEYS: writing    ARGV: token, milliseconds (0: leave)    Returns 1 where it held them.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
