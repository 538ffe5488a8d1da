-- Takes, or keeps, the turn to sweep this partition. ARGV: whose it is to be, for how many milliseconds.
-- Returns 1, or 0 while it is another's.
local turn = base .. 'w'
local held = redis.call('GET', turn)
if held and held ~= ARGV[1] then
  return 0
end
redis.call('SET', turn, ARGV[1], 'PX', ARGV[2])
return 1
