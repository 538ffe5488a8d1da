-- Reads papers of an owner, the newest first unless said otherwise. ARGV: home and claim, kinds (a bit each), how many at most, and where the
-- reader stopped: time (6 bytes) and key (16), or nothing; '1' if the oldest come first.
-- Returns: the keys, and their values.
local KINDS_MAX = 31
local owner, kinds, limit, after = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local oldest_first = ARGV[5] == '1'
local count, whole = count_of(owner)

-- With every bit, what has no kind at all is wanted too: the reader finds that it is damaged.
local function is_wanted(kind)
  return kinds == 2 ^ 32 - 1 or math.floor(kinds / 2 ^ kind) % 2 == 1
end

-- Time, then key, as numbers: strings are compared as the server's language has it.
local function place_of(key, head)
  local upper, lower = struct.unpack('>I2I4', head)
  local place = { upper * 2 ^ 32 + lower, struct.unpack('>I4I4I4I4', key) }
  place.key = key
  return place
end

local function is_first(a, b)
  for nth = 1, 5 do
    if a[nth] ~= b[nth] then
      return (a[nth] > b[nth]) ~= oldest_first
    end
  end
  return false
end

if count <= SMALL or not whole then
  local found, some = redis.call('HGETALL', papers_of(owner)), {}
  local last = after ~= '' and place_of(string.sub(after, 7), after)
  for nth = 1, #found, 2 do
    local key, value = found[nth], found[nth + 1]
    if is_wanted(string.byte(value, 7)) then
      local place = place_of(key, value)
      if not last or is_first(last, place) then
        place.value = value
        some[#some + 1] = place
      end
    end
  end
  table.sort(some, is_first)
  local keys, values = {}, {}
  for nth = 1, math.min(limit, #some) do
    keys[nth], values[nth] = some[nth].key, some[nth].value
  end
  return { keys, values }
end

-- Of each kind as many as could be on the page, in order; then the first of all.
local lists = {}
for kind = 1, KINDS_MAX do
  if is_wanted(kind) then
    local from, to = range_of(kind)
    local last = after ~= '' and '(' .. member_of(kind, after, string.sub(after, 7))
    local members
    if oldest_first then
      members = redis.call('ZRANGEBYLEX', index_of(owner), last or from, to, 'LIMIT', 0, limit)
    else
      members = redis.call('ZREVRANGEBYLEX', index_of(owner), last or to, from, 'LIMIT', 0, limit)
    end
    if #members > 0 then
      lists[#lists + 1] = { members = members, nth = 1 }
    end
  end
end

local keys = {}
if #lists == 1 then
  for nth, member in ipairs(lists[1].members) do
    keys[nth] = string.sub(member, 8)
  end
else
  local function place_at(list)
    local member = list.members[list.nth]
    list.place = member and place_of(string.sub(member, 8), string.sub(member, 2, 7))
  end
  for _, list in ipairs(lists) do
    place_at(list)
  end
  while #keys < limit do
    local first
    for _, list in ipairs(lists) do
      if list.place and (not first or is_first(list.place, first.place)) then
        first = list
      end
    end
    if not first then
      break
    end
    keys[#keys + 1] = first.place.key
    first.nth = first.nth + 1
    place_at(first)
  end
end

local values = {}
for first = 1, #keys, 1000 do
  local found = redis.call('HMGET', papers_of(owner), unpack(keys, first, math.min(first + 999, #keys)))
  if #keys <= 1000 then
    return { keys, found }
  end
  for nth, value in ipairs(found) do
    values[first + nth - 1] = value
  end
end
return { keys, values }
