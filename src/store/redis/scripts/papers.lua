-- Reads papers of an owner, the newest first. ARGV: home and claim, kinds (a bit each), how many at most, and where the
-- reader stopped: time (6 bytes) and key (16), or nothing.
-- Returns: key and value of each.
local found = redis.call('HGETALL', base .. 'p' .. ARGV[1])
local kinds, limit = tonumber(ARGV[2]), tonumber(ARGV[3])

-- Time, then key, as numbers: strings are compared as the server's language has it.
local function place_of(key, value)
  local place = { struct.unpack('>I2I4', value) }
  for nth = 1, 4 do
    place[2 + nth] = struct.unpack('>I4', key, nth * 4 - 3)
  end
  return place
end

local function is_newer(a, b)
  for nth = 1, 6 do
    if a[nth] ~= b[nth] then
      return a[nth] > b[nth]
    end
  end
  return false
end

local after = ARGV[4] ~= '' and place_of(string.sub(ARGV[4], 7), ARGV[4])
local some = {}
for nth = 1, #found, 2 do
  local key, value = found[nth], found[nth + 1]
  if math.floor(kinds / 2 ^ string.byte(value, 7)) % 2 == 1 then
    local place = place_of(key, value)
    if not after or is_newer(after, place) then
      place.key, place.value = key, value
      some[#some + 1] = place
    end
  end
end
table.sort(some, is_newer)
local out = {}
for nth = 1, math.min(limit, #some) do
  out[nth] = { some[nth].key, some[nth].value }
end
return out
