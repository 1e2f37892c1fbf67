-- Make a person's incarnation, unless there is one: whoever comes second takes the first's.
-- KEYS: person    ARGV: app, user, tenant, key
-- Returns the tenant and the key that count.
local tenant = redis.call('HGET', KEYS[1], 'tenant')
if tenant then return {tenant, redis.call('HGET', KEYS[1], 'key')} end
redis.call('HSET', KEYS[1], 'app', ARGV[1], 'user', ARGV[2], 'tenant', ARGV[3], 'key', ARGV[4])
return {ARGV[3], ARGV[4]}
