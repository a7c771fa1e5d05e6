-- Replace a record by its re-sealed copy, if the record has not changed since it was read. Its remaining lifetime stays.
-- KEYS: the record's key. ARGV: the record that was read, the new one. Returns 1 if it was replaced, else 0.
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
