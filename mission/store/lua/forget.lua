-- Delete what the ledger holds of a mission, whatever its state: entry and indexes. Who still works on it cannot commit any more.
-- ARGV: id. Returns 'forgotten' or 'unknown'.
local id = ARGV[1]
detach(id)
off_indexes(id)
return redis.call('DEL', entry(id)) == 1 and 'forgotten' or 'unknown'
