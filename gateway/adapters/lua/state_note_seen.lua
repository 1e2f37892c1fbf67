-- These messages are captured, or will be; and what the conversation's block holds now.
-- KEYS: conv, gone    ARGV: now, ttl, session, run that ends the walk,
--                        marks from the latest on in lines,
--                        how many of the messages were new where the answer broke off, 0 where it
--                        did not, -1 for earlier marks; the block's sealed list, '' as it was
-- Returns 1 where earlier marks need not be looked at.
if redis.call('EXISTS', KEYS[2]) == 1 then return 1 end
redis.call('HSETNX', KEYS[1], 'born', ARGV[1])
redis.call('HSET', KEYS[1], 'a' .. ARGV[3], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'i' .. ARGV[3], ARGV[7]) end
local owed, latest = tonumber(ARGV[6]), string.match(ARGV[5], '^[^\n]+')
if latest and owed > 0 then
  redis.call('HSET', KEYS[1], 'u' .. latest, owed)
elseif latest and owed == 0 then
  redis.call('HDEL', KEYS[1], 'u' .. latest)
end
local run = 0
for mark in string.gmatch(ARGV[5], '[^\n]+') do
  local field = 'm' .. mark
  local kept = redis.call('HGET', KEYS[1], field)
  if kept and string.sub(kept, 1, 1) == '1' then
    -- Of two conversations that began alike the one that spoke last has the opening.
    if kept ~= '1' .. ARGV[3] then redis.call('HSET', KEYS[1], field, '1' .. ARGV[3]) end
    run = run + 1
    if run >= tonumber(ARGV[4]) then return 1 end
  else
    run = 0
    redis.call('HSET', KEYS[1], field, '1' .. ARGV[3])
  end
end
return 0
