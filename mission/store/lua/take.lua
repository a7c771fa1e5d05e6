-- Take additional wake-up messages from a queue. Stop at a message of another kind, since kombu must track those, and at a message that is
-- too large, since a worker may not have the memory for several of them.
-- ARGV: how many at most, a text that only wake-up messages contain, the most bytes of a message, the queue (the last release names none
-- and only has one).
-- Returns the messages.
local most, queue = tonumber(ARGV[3]), ARGV[4] or MESSAGES_OF.normal
local taken = {}
while #taken < tonumber(ARGV[1]) do
  local message = redis.pcall('LINDEX', queue, -1)
  if type(message) ~= 'string' or #message > most or not string.find(message, ARGV[2], 1, true) then break end
  taken[#taken + 1] = redis.call('RPOP', queue)
end
return taken
