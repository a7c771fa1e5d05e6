-- Take more messages of a queue that wake workers for missions, up to so many. One of another kind ends it: kombu keeps account of those. So does
-- one that is too large: who takes several such at once may have no memory for them.
-- ARGV: how many at most, a text that such a message has and no other kind, how many bytes it has at most, the queue: the last release
-- names none and has one.
-- Returns the messages.
local most, queue = tonumber(ARGV[3]), ARGV[4] or MESSAGES_OF.normal
local taken = {}
while #taken < tonumber(ARGV[1]) do
  local message = redis.pcall('LINDEX', queue, -1)
  if type(message) ~= 'string' or #message > most or not string.find(message, ARGV[2], 1, true) then break end
  taken[#taken + 1] = redis.call('RPOP', queue)
end
return taken
