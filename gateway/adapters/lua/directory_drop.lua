-- End an incarnation, if it is still the present one; a link of the same name stays.
-- KEYS: person    ARGV: tenant
if redis.call('HGET', KEYS[1], 'tenant') ~= ARGV[1] then return 0 end
if redis.call('HEXISTS', KEYS[1], 'link') == 1 then
  redis.call('HDEL', KEYS[1], 'tenant', 'key')
else
  redis.call('DEL', KEYS[1])
end
return 1
