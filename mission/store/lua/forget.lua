-- Delete what the ledger holds of a mission, whatever its state: entry, also one that was set aside, and indexes. Who still works on it cannot commit any more.
-- ARGV: id. Returns 'forgotten' or 'unknown'.
local id = ARGV[1]
detach(id)
off_indexes(id)
return redis.call('DEL', entry(id), ASIDE .. 'm:' .. id) > 0 and 'forgotten' or 'unknown'
