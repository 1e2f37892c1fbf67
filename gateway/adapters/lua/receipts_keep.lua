-- Keep one receipt, and let go of what is too old or too many. Ages by this server's clock.
-- KEYS: receipts, receipts:at, fence    ARGV: id, sealed receipt, how long to keep, how many
if redis.call('EXISTS', KEYS[3]) == 1 then return end
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], string.format('%.6f', now), ARGV[1])
local oldest = string.format('%.6f', now - tonumber(ARGV[3]))
local ended = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', oldest, 'LIMIT', 0, 200)
local excess = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[4])
if excess > #ended then
  ended = redis.call('ZRANGE', KEYS[2], 0, math.min(excess, 200) - 1)
end
if #ended > 0 then
  redis.call('HDEL', KEYS[1], unpack(ended))
  redis.call('ZREM', KEYS[2], unpack(ended))
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[3])
