-- What a conversation's block holds now.
-- KEYS: conv, gone    ARGV: now, ttl, session, the sealed list
if redis.call('EXISTS', KEYS[2]) == 1 then return end
redis.call('HSETNX', KEYS[1], 'born', ARGV[1])
redis.call('HSET', KEYS[1], 'a' .. ARGV[3], ARGV[1], 'i' .. ARGV[3], ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[2])
