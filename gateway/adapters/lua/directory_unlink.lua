-- Take a link back; an entry that held nothing else goes.
-- KEYS: person    Returns the user that it led to, or nil.
local target = redis.call('HGET', KEYS[1], 'link')
redis.call('HDEL', KEYS[1], 'link')
if redis.call('HEXISTS', KEYS[1], 'tenant') == 0 then redis.call('DEL', KEYS[1]) end
return target
