-- How many missions stand in each state, and since when the oldest unfinished one waits.
-- Returns {now, queued, running, retrying, dead, succeeded, failed, cancelled, the time in ms when the oldest was submitted, or 0}.
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
local queued, running = redis.call('ZCARD', QUEUED), redis.call('ZCARD', LEASES)
return {
  now, queued, running, math.max(0, redis.call('ZCARD', OPEN) - queued - running), redis.call('ZCARD', DEAD),
  finished[1] or 0, finished[2] or 0, finished[3] or 0, oldest,
}
