-- Another state of a receipt, in its place; one that is no more is not brought back.
-- KEYS: receipts    ARGV: id, sealed receipt
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
