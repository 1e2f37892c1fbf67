-- Receipts that are not too old, newest first: up to so many, or the one of an id.
-- KEYS: receipts, receipts:at    ARGV: how long they are kept, how many, the id if one is meant
-- Returns id, sealed receipt, id, …
local time = redis.call('TIME')
local oldest = time[1] + time[2] / 1000000 - tonumber(ARGV[1])
local ids
if ARGV[3] then
  local at = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[3]) or '')
  ids = (at and at > oldest) and {ARGV[3]} or {}
else
  local after = '(' .. string.format('%.6f', oldest)
  ids = redis.call('ZREVRANGEBYSCORE', KEYS[2], '+inf', after, 'LIMIT', 0, ARGV[2])
end
local found = {}
for _, id in ipairs(ids) do
  local sealed = redis.call('HGET', KEYS[1], id)
  if sealed then
    found[#found + 1] = id
    found[#found + 1] = sealed
  end
end
return found
