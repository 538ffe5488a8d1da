-- Removes what is past its time. ARGV: of each kind in turn the time (6 bytes, all in one string) from before which papers
-- go; then owners (home and claim). Returns how many went.
local swept = 0
for nth = 2, #ARGV do
  local pile = base .. 'p' .. ARGV[nth]
  local found = redis.call('HGETALL', pile)
  local past = {}
  for at = 1, #found, 2 do
    local value = found[at + 1]
    local upper, lower = struct.unpack('>I2I4', value)
    local first, second = struct.unpack('>I2I4', ARGV[1], string.byte(value, 7) * 6 - 5)
    if upper < first or upper == first and lower < second then
      past[#past + 1] = found[at]
    end
  end
  for from = 1, #past, 1000 do
    redis.call('HDEL', pile, unpack(past, from, math.min(from + 999, #past)))
  end
  swept = swept + #past
end
return swept
