-- What the partition is now, and whether its stream still holds an entry. ARGV: the id of that entry.
-- Returns: epoch, ring, format, seq, depth, count, the last entry's id, 1 if the entry is there, 1 if it is not although
-- older ones are: then it was never written here; the time, in milliseconds; the highest version that was given here, and the
-- highest that is known to be on replicas.
local state = redis.call('HMGET', KEYS[1], 'epoch', 'ring', 'format', 'seq', 'depth', 'count', 'top', 'acked')
local last = redis.call('XREVRANGE', base .. 's', '+', '-', 'COUNT', 1)
local held = redis.call('XRANGE', base .. 's', ARGV[1], ARGV[1], 'COUNT', 1)
local older = redis.call('XRANGE', base .. 's', '-', ARGV[1], 'COUNT', 1)
local time = redis.call('TIME')
return {
  state[1] or '', state[2] or '', tonumber(state[3]) or 0, tonumber(state[4]) or 0, tonumber(state[5]) or 0,
  tonumber(state[6]) or 0, last[1] and last[1][1] or '0-0', #held, #older - #held,
  time[1] * 1000 + math.floor(time[2] / 1000), tonumber(state[7]) or 0, tonumber(state[8]) or 0,
}
