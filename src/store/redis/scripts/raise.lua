-- Lets versions go on above what a board knows, and gives a store that went back another epoch, so that nodes that slept then
-- notice it too. ARGV: the highest version that the board knows; the epoch that is to end, or nothing; a new epoch.
-- Returns 1 if the epoch is another one now.
local state = redis.call('HMGET', KEYS[1], 'epoch', 'top')
if tonumber(ARGV[1]) > (tonumber(state[2]) or 0) then
  redis.call('HSET', KEYS[1], 'top', ARGV[1])
end
if state[1] and state[1] ~= '' and state[1] == ARGV[2] then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[3])
  return 1
end
return 0
