-- Take more messages that wake workers for missions, up to so many. One of another kind ends it: kombu keeps account of those.
-- ARGV: how many at most, a text that such a message has and no other kind.
-- Returns the messages.
local taken = {}
while #taken < tonumber(ARGV[1]) do
  local message = redis.pcall('LINDEX', MESSAGES, -1)
  if type(message) ~= 'string' or not string.find(message, ARGV[2], 1, true) then break end
  taken[#taken + 1] = redis.call('RPOP', MESSAGES)
end
return taken
