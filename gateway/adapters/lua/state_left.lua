-- How many entries a tenant has; with "1" they go, and a fence stands in their place.
-- KEYS: all of a tenant's, the fence last    ARGV: "1" to remove them, ttl of the fence
local left = 0
for i = 1, #KEYS - 1 do
  local type = redis.call('TYPE', KEYS[i]).ok
  if type == 'hash' then
    left = left + redis.call('HLEN', KEYS[i]) - redis.call('HEXISTS', KEYS[i], 'born')
  elseif type == 'string' then
    left = left + 1
  end
end
if ARGV[1] == '1' then
  redis.call('SET', KEYS[#KEYS], '1', 'EX', ARGV[2])
  for i = 1, #KEYS - 1 do redis.call('UNLINK', KEYS[i]) end
end
return left
