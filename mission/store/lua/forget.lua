-- Delete what the ledger holds of a mission, whatever its state: entry and indexes. Who still works on it cannot commit any more.
-- ARGV: prefix, schema, id. Returns 'forgotten' or 'unknown'.
local id = ARGV[3]
detach(id)
for _, index in ipairs({'open', 'expiry', 'dead'}) do redis.call('ZREM', key(index), id) end
return redis.call('DEL', entry(id)) == 1 and 'forgotten' or 'unknown'
