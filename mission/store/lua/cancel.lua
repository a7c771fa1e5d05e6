-- End a mission that nobody works on: it waits for a worker, or to be tried again.
-- ARGV: id, ledger TTL in s. Returns 'cancelled' (also where it was before), the state that it is in instead, or 'unknown'.
local id = ARGV[1]
if redis.call('TYPE', entry(id)).ok ~= 'hash' then return 'unknown' end
local state = redis.call('HGET', entry(id), 'state')
if state == 'queued' or state == 'retrying' then
  finish(id, 'cancelled', 'cancelled', '', ARGV[2])
  return 'cancelled'
end
return state or 'unknown'
