-- Take away a lock or a note, if it is still the one that was seen.
-- KEYS: key    ARGV: the token that was seen in it
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
