-- The first answer kept for an idempotency key. Ages are told by this server's clock.
-- KEYS: once, once:due, gone    ARGV: key, ttl, most answers of a tenant, the answer to keep if any
local now = tonumber(redis.call('TIME')[1])
local due = redis.call('ZSCORE', KEYS[2], ARGV[1])
if due and tonumber(due) > now then return redis.call('HGET', KEYS[1], ARGV[1]) end
if #ARGV < 4 then return false end
if redis.call('EXISTS', KEYS[3]) == 1 then return ARGV[4] end
local ended = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 100)
local excess = redis.call('ZCARD', KEYS[2]) - #ended + 1 - tonumber(ARGV[3])
if excess > 0 then ended = redis.call('ZRANGE', KEYS[2], 0, #ended + excess - 1) end
if #ended > 0 then
  redis.call('HDEL', KEYS[1], unpack(ended))
  redis.call('ZREM', KEYS[2], unpack(ended))
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[2]), ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return ARGV[4]
