-- How many missions stand in each state, and since when the oldest unfinished one waits.
-- ARGV: 'priorities' to tell of those as well, which the last release does not ask for.
-- Returns {now, queued, running, retrying, dead, succeeded, failed, cancelled, the time in ms when the oldest was submitted, or 0}, and then
-- how many of the queued ones are of high, of normal and of low priority.
-- The time is found by counting: to look at the oldest one would take a right that lists the ids of all.
local oldest = 0
if redis.call('ZCARD', OPEN) > 0 then
  local low, high = 0, now
  while low < high do
    local middle = math.floor((low + high) / 2)
    if redis.call('ZCOUNT', OPEN, '-inf', middle) > 0 then high = middle else low = middle + 1 end
  end
  oldest = low
end
local finished = redis.call('HMGET', FINISHED, 'succeeded', 'failed', 'cancelled')
-- What is unfinished and neither waits nor runs is to be tried again: these lie with their hosts.
local queued, running, of = 0, redis.call('ZCARD', LEASES), {}
for i, priority in ipairs(PRIORITIES) do
  of[i] = redis.call('ZCARD', INDEX_OF[priority])
  queued = queued + of[i]
end
return {
  now, queued, running, math.max(0, redis.call('ZCARD', OPEN) - queued - running), redis.call('ZCARD', DEAD),
  finished[1] or 0, finished[2] or 0, finished[3] or 0, oldest, unpack(ARGV[1] == 'priorities' and of or {})
}
