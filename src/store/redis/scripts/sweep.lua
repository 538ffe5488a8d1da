-- Removes what is past its time. ARGV: of each kind in turn the time (6 bytes, all in one string) from before which papers
-- go; how many papers are looked at in one call; then owners (home and claim).
-- Returns how many went, and with how many owners it is done.
local horizons, left = ARGV[1], tonumber(ARGV[2])
local swept = 0

local function horizon_of(kind)
  return string.sub(horizons, kind * 6 - 5, kind * 6)
end

-- Keys of what is past, and their members of the index.
local function past_of(owner, count)
  local keys, members = {}, {}
  if count > SMALL then
    for kind = 1, #horizons / 6 do
      local from = range_of(kind)
      local past = redis.call('ZRANGEBYLEX', index_of(owner), from, '(' .. string.char(kind) .. horizon_of(kind),
        'LIMIT', 0, math.max(left, 1))
      left = left - 1 - #past
      for _, member in ipairs(past) do
        members[#members + 1] = member
        keys[#keys + 1] = string.sub(member, 8)
      end
      if left <= 0 then
        return keys, members, false
      end
    end
    return keys, members, true
  end
  local found = redis.call('HGETALL', papers_of(owner))
  for nth = 1, #found, 2 do
    local value = found[nth + 1]
    local upper, lower = struct.unpack('>I2I4', value)
    local first, second = struct.unpack('>I2I4', horizon_of(string.byte(value, 7)))
    if upper < first or upper == first and lower < second then
      keys[#keys + 1] = found[nth]
    end
  end
  left = left - 1 - count
  return keys, members, true
end

for nth = 3, #ARGV do
  if left <= 0 then
    return { swept, nth - 3 }
  end
  local owner = ARGV[nth]
  local papers, index = papers_of(owner), index_of(owner)
  local count, whole = count_of(owner)
  if not whole then
    index_anew(papers, index, count)
  end
  local keys, members, done = past_of(owner, count)
  in_parts('HDEL', papers, keys)
  in_parts('ZREM', index, members)
  if count > SMALL and count - #keys <= SMALL then
    redis.call('UNLINK', index)
  end
  swept = swept + #keys
  if not done then
    return { swept, nth - 3 }
  end
end
return { swept, #ARGV - 2 }
