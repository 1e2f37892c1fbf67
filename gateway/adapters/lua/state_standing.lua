-- The version of a tenant's standing memories, begun where there is none.
-- KEYS: standing, gone    ARGV: candidate, ttl, "1" to renew it
if redis.call('EXISTS', KEYS[2]) == 1 then return 'gone' end
local standing = redis.call('GET', KEYS[1])
if ARGV[3] == '1' or not standing then
  standing = ARGV[1]
  redis.call('SET', KEYS[1], standing, 'EX', ARGV[2])
end
return standing
