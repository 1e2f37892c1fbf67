-- GCRA: one number per bucket, the time at which it will be full again.
-- KEYS: bucket    ARGV: now, cost, a minute's worth, window, "1" to take it in any case
-- Returns seconds to wait, "0" where it was taken.
local now, cost, rate = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local window = tonumber(ARGV[4])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
if ARGV[5] == '0' then
  local wait = full + math.min(math.max(cost, 1), rate) * window / rate - now - window
  if wait > 0.000001 then return string.format('%.6f', wait) end
end
if cost > 0 then
  full = full + cost * window / rate
  local ttl = math.max(1, math.min(math.ceil(full - now), 86400))
  redis.call('SET', KEYS[1], string.format('%.6f', full), 'EX', ttl)
end
return '0'
