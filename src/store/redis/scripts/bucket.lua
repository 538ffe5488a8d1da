-- Where a resident is. The buckets of a partition double one after the other as it grows (linear hashing over the bits of
-- the id below its four topmost), so that each holds some fifty residents at any size and stays in Redis's packed form.
-- A value is: word (8 bytes), tag of the word (8), tag of the record (8), claim (16), length of the profile (2), profile,
-- standings; word and tags as the nodes make them, the rest as record.rs writes it.
local base = string.sub(KEYS[1], 1, -2)

local function bucket_at(depth, prefix)
  return base .. depth .. ':' .. string.format('%d', prefix)
end

-- The first `depth` bits of what of the id is above its lower half, without the four that name the partition.
local function prefix_of(high, depth)
  return math.floor(high % 0x10000000 / 2 ^ (28 - depth))
end

local function bucket_of(high, depth, split)
  local prefix = prefix_of(high, depth)
  if prefix < split then
    return bucket_at(depth + 1, prefix_of(high, depth + 1))
  end
  return bucket_at(depth, prefix)
end

-- The id `steps` slots after a home, which stays in the home's bucket.
local function id_at(high, low, steps)
  return struct.pack('>I4I4', high, (low + steps) % 0x100000000)
end

-- Whether an id that is not in its bucket is in one of another depth: then somebody edited the numbers that name the bucket, and
-- its resident is not unknown. What cannot be read, where a slot moves to another server, is passed over. Depths that are farther
-- off concern every id of the partition, so the first such id of a call tells of them.
local is_first_missing = true
local function is_elsewhere(high, id, own)
  local level = tonumber(string.match(own, '^(%d+):', #base + 1))
  local from, to = math.max(level - 2, 0), math.min(level + 2, 28)
  if is_first_missing then
    from, to, is_first_missing = 0, 28, false
  end
  for depth = from, to do
    if depth ~= level and redis.pcall('HEXISTS', bucket_at(depth, prefix_of(high, depth)), id) == 1 then
      return true
    end
  end
  return false
end
