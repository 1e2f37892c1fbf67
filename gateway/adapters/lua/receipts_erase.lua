-- KEYS: receipts, receipts:at, fence    ARGV: for how long nothing of this tenant is kept again
local count = redis.call('HLEN', KEYS[1])
redis.call('SET', KEYS[3], '1', 'EX', ARGV[1])
redis.call('UNLINK', KEYS[1], KEYS[2])
return count
