-- Which conversation a request belongs to, and how many of its messages are new.
-- KEYS: conv, conv:old, standing, gone
-- ARGV: now, idle gap, ttl, "1" if the client named the session, session (named or to be begun),
--       its id to keep, a standing version to begin, "1" if there are earlier marks than these,
--       entries a generation may have, marks from the latest on
-- Returns {-1} erased; {0} none seen, look at earlier marks too; else
--   {1, session id as kept, new messages, injected as kept or nil, standing version, session}
if redis.call('EXISTS', KEYS[4]) == 1 then return {-1} end
local now, gap, ttl = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local function get(field)
  return redis.call('HGET', KEYS[1], field) or redis.call('HGET', KEYS[2], field)
end
local known, seen_at, seen_in
for i = 10, #ARGV do
  local mark = get('m' .. ARGV[i])
  if mark then
    local where = string.sub(mark, 2)
    known = known or where
    if string.sub(mark, 1, 1) == '1' then
      seen_at, seen_in = i - 10, where
      break
    end
  end
end
if not seen_at and ARGV[8] == '1' then return {0} end
local session = ARGV[5]
if ARGV[4] == '0' and known then
  local last = tonumber(get('a' .. known) or '')
  if last and now - last <= gap then session = known end
end
local fresh = seen_at or (#ARGV - 9)
-- Said before, but elsewhere or long ago: its last message is said anew.
local again = seen_at == 0 and seen_in ~= session
if again then fresh = 1 end

local born = tonumber(redis.call('HGET', KEYS[1], 'born') or '')
local name, injected = get('n' .. session) or ARGV[6], get('i' .. session)
if born and (now - born > ttl or redis.call('HLEN', KEYS[1]) > tonumber(ARGV[9])) then
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('EXPIRE', KEYS[2], ttl)
  born = nil
end
if not born then redis.call('HSET', KEYS[1], 'born', ARGV[1]) end
redis.call('HSET', KEYS[1], 'a' .. session, ARGV[1], 'n' .. session, name)
if injected then redis.call('HSETNX', KEYS[1], 'i' .. session, injected) end
if #ARGV > 9 and (again or seen_at ~= 0) then
  redis.call('HSET', KEYS[1], 'm' .. ARGV[10], '0' .. session)
end
redis.call('EXPIRE', KEYS[1], ttl)
local standing = redis.call('GET', KEYS[3])
if not standing then
  standing = ARGV[7]
  redis.call('SET', KEYS[3], standing, 'EX', ttl)
end
return {1, name, fresh, injected, standing, session}
