-- Increments: each is counted, leaves its event in the outbox, and is remembered under its idempotency key, in one atomic step.
--
-- KEYS: where the keys stand (a hash), where the outbox stands (a hash), then a counter for each run of items. The idempotency
-- keys are in the hashes KEYS[1]:N and KEYS[1]:N-1, the newer and the older generation, of which the older one is dropped whole.
-- The events are in the streams KEYS[2]:0, KEYS[2]:1, ..., one a shard.
-- ARGV: the retention in milliseconds, the bytes that keys may take, what one takes beside its text, the bytes that those of the
-- items take together (nothing if they have none); the outbox's shards (0: there is none), the events that it may hold (nothing:
-- it is known to have room), the name of a new one, the identity of the server; the number of items, the length of each run (a
-- byte each; nothing if each is a single item), the delta of all items (nothing if they differ), the number of shards that they
-- belong to; for each of these its number and how many runs it has, in the order of the runs (without an outbox there is one);
-- then for each item its key with the counter's name (if they have keys; no two are the same); then its delta (if they differ).
-- Answer: lines. The bytes that keys take and the events that are unsent (if that was looked at), then for each item one of
--   VALUE DELTA TIME   counted, and remembered like this      #   no room for the key
--   =VALUE DELTA TIME  the key was used, and this remembered  !   no room for the event
--   ?ERROR             what Redis said to this item
--
-- No item harms another, and nothing can fail between a count, its event and its key: what could (the type of a hash, the right
-- to write it, memory) is tried before the first count, and an event that Redis will not take has its count taken back.
-- Lua writes numbers exactly up to 14 digits; larger counts are read as text.

local KEYS, ARGV = KEYS, ARGV
local state, outbox = KEYS[1], KEYS[2]
local retention, limit, overhead, once = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] ~= ''
local shards, bound, items = ARGV[5] ~= '0' and ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[9])
local lengths, common, touched = ARGV[10], ARGV[11] ~= '' and ARGV[11], tonumber(ARGV[12])
local HEAD = 13
local FIELDS = HEAD - 1 + 2 * touched
local DELTAS = once and FIELDS + items or FIELDS
local EXACT = 100000000000000
local call, pcall, protected = redis.call, redis.pcall, pcall
local byte, format, concat, match, type = string.byte, string.format, table.concat, string.match, type

-- Exact for whole numbers below 2^53, which everything here is but counts.
local function whole(number)
  return format('%d', number)
end

local function generation(number)
  return state .. ':' .. whole(number)
end

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local moment = ' ' .. whole(now)

-- Where the outbox stands. Another server than the one that wrote last (a start, a failover) may have lost events whose numbers
-- are known outside: its events get a new name.
local name, sequences, unsent = nil, {}, nil
if shards and items > 0 then
  local wanted = { 'name', 'server', 'shards' }
  for n = 1, touched do
    wanted[n + 3] = 'seq:' .. ARGV[HEAD + 2 * n - 2]
  end
  sequences = call('HMGET', outbox, unpack(wanted))
  if sequences[3] and sequences[3] ~= shards then
    return redis.error_reply('SHARDS ' .. sequences[3])
  end
  if bound then
    local all = call('HGETALL', outbox)
    unsent = 0
    for n = 1, #all, 2 do
      local kind = string.sub(all[n], 1, 4)
      unsent = unsent + (kind == 'seq:' and all[n + 1] or kind == 'sent' and -all[n + 1] or 0)
    end
  end
  name = sequences[1]
  if not name or sequences[2] ~= ARGV[8] then
    name = ARGV[7]
    call('HSET', outbox, 'name', name, 'server', ARGV[8], 'shards', shards)
  end
end
local space = bound and unsent and bound - unsent or math.huge

-- Where the generations stand, and a new one if it is time to.
local newest, since, newer, older, changed = 0, 0, 0, 0, false
if once then
  local place = call('HMGET', state, 'newest', 'since', 'newer', 'older')
  newest, since = tonumber(place[1] or 0), tonumber(place[2] or 0)
  newer, older = tonumber(place[3] or 0), tonumber(place[4] or 0)
  local age = now - since
  local idle = items == 0 and newer + older == 0
  changed = not idle and (newest == 0 or age >= retention)
  if changed then
    call('UNLINK', generation(newest - 1))
    newest, newer, older = newest + 1, 0, newer
    if age >= 2 * retention then
      call('UNLINK', generation(newest - 1))
      newest, older = newest + 1, 0
    end
    call('HSET', state, 'newest', whole(newest), 'since', whole(now), 'newer', '0', 'older', whole(older))
  end
end

-- What is known of each key, and the room for all of them, as far as there is any: what is left of it is given back. Where all
-- are known nothing is written, so that repeats are answered by a Redis that takes no writes.
local found, before, room, needed = {}, {}, 0, 0
local function known(i)
  local record = found[i] or before[i]
  return record and now - match(record, '%d+$') < retention and record
end
if once and items > 0 then
  found = call('HMGET', generation(newest), unpack(ARGV, FIELDS + 1, FIELDS + items))
  if older > 0 then
    before = call('HMGET', generation(newest - 1), unpack(ARGV, FIELDS + 1, FIELDS + items))
  end
  for i = 1, items do
    if not known(i) then
      needed = tonumber(ARGV[4])
      break
    end
  end
  room = math.max(math.min(needed, limit - newer - older), 0)
  if room > 0 then
    newer = newer + room
    call('HSET', state, 'newer', whole(newer))
  end
end

-- Counts items of one counter by one command: what it counted before them. Nil, with nothing done, where they need to be looked at
-- one by one.
local function count_together(first, final, key)
  local sum, reach, bytes = 0, 0, 0
  for i = first, final do
    local delta = common or ARGV[DELTAS + i]
    if found[i] or before[i] or #delta > 12 then
      return nil
    end
    sum, reach = sum + delta, reach + math.abs(delta)
    bytes = bytes + (once and #ARGV[FIELDS + i] + overhead or 0)
  end
  if bytes > room or final - first >= space then
    return nil
  end
  local value = pcall('INCRBY', key, whole(sum))
  if type(value) ~= 'number' then
    return nil
  end
  -- Nothing on the way is further from its end than all deltas together, which are few enough to be exact.
  if math.abs(value) + reach >= EXACT then
    call('INCRBY', key, whole(-sum))
    return nil
  end
  return value - sum
end

-- Lines of the answer and of each shard's entry, and what is to be remembered.
local answers, entries, writes, written = { '' }, {}, {}, 0
local run, item = 0, 0

-- The most frequent kind of call, with nothing but what it needs, at two thirds of the cost: single items of one delta, none of
-- them known, room for all. Ends before an item that Redis refuses, which did nothing.
local easy = lengths == '' and common and space >= items and room == needed
for i = 1, easy and once and items or 0 do
  if found[i] or before[i] then
    easy = false
    break
  end
end
local function count_easily(final, lines)
  local KEYS, ARGV, FIELDS, EXACT, answers, writes = KEYS, ARGV, FIELDS, EXACT, answers, writes
  local call, format, once, delta, tail, last = call, format, once, common, ' ' .. common .. moment, 1
  for i = item + 1, final do
    local key = KEYS[i + 2]
    local value = call('INCRBY', key, delta)
    if value >= EXACT or value <= -EXACT then
      value = call('GET', key)
    else
      value = format('%d', value)
    end
    local answer = value .. tail
    answers[i + 1] = answer
    if once then
      local at = 2 * i
      writes[at - 1] = ARGV[FIELDS + i]
      writes[at] = answer
    end
    if lines then
      lines[last + 1] = key
      last = last + 2
      lines[last] = answer
    end
    item = i
  end
end

-- The counts. No functions of our own where each item passes.
for n = 1, touched do
  local final, lines = run + ARGV[HEAD + 2 * n - 1], shards and { '' }
  entries[n] = lines
  if easy then
    easy = protected(count_easily, final, lines)
    run = item
    if not easy then
      -- What it did not keep account of.
      space = space - item
      for i = 1, once and item or 0 do
        room, written = room - #ARGV[FIELDS + i] - overhead, written + 2
      end
    end
  end
  local last = lines and #lines
  while run < final do
    run = run + 1
    local key, length, before_all = KEYS[run + 2], byte(lengths, run) or 1, nil
    if length > 1 then
      before_all = count_together(item + 1, item + length, key)
    end
    for i = item + 1, item + length do
      local delta, field = common or ARGV[DELTAS + i], ARGV[FIELDS + i]
      local record, value = known(i), nil
      if before_all then
        before_all = before_all + delta
        value = before_all
      elseif record then
        answers[i + 1] = '=' .. record
      elseif once and #field + overhead > room then
        answers[i + 1] = '#'
      elseif space <= 0 then
        answers[i + 1] = '!'
      else
        value = pcall('INCRBY', key, delta)
        if type(value) ~= 'number' then
          answers[i + 1], value = '?' .. value.err, nil
        end
      end
      if value then
        value = value < EXACT and value > -EXACT and format('%d', value) or call('GET', key)
        local answer = value .. ' ' .. delta .. moment
        answers[i + 1] = answer
        if once then
          room = room - #field - overhead
          writes[written + 1] = field
          written = written + 2
          writes[written] = answer
        end
        if lines then
          space = space - 1
          lines[last + 1] = key
          last = last + 2
          lines[last] = answer
        end
      end
    end
    item = item + length
  end
end
if easy then
  room, space, written = 0, space - items, #writes
end

-- The negative of a delta that was counted, in two steps where it has none.
local function uncount(key, delta)
  if byte(delta) ~= 45 then
    call('INCRBY', key, '-' .. delta)
  elseif delta == '-9223372036854775808' then
    call('INCRBY', key, '9223372036854775807')
    call('INCRBY', key, 1)
  else
    call('INCRBY', key, string.sub(delta, 2))
  end
end

-- Takes the counts of a shard back, and tells everyone who asked for them. The last one first: that is a way on which no count
-- leaves its range, because it came by it.
local function take_back(wrong, why)
  local keys, deltas = {}, {}
  writes, written, run, item = {}, 0, 0, 0
  for n = 1, touched do
    for _ = 1, ARGV[HEAD + 2 * n - 1] do
      run = run + 1
      for i = item + 1, item + (byte(lengths, run) or 1) do
        local answer, field = answers[i + 1], once and ARGV[FIELDS + i]
        local was_counted = match(answer, '^[-%d]')
        if was_counted and n == wrong then
          keys[#keys + 1], deltas[#keys + 1] = KEYS[run + 2], common or ARGV[DELTAS + i]
          space = space + 1
          room = room + (once and #field + overhead or 0)
          answers[i + 1] = '?' .. why
        elseif was_counted and once then
          writes[written + 1], writes[written + 2], written = field, answer, written + 2
        end
        item = i
      end
    end
  end
  for i = #keys, 1, -1 do
    uncount(keys[i], deltas[i])
  end
end

-- The events: the numbers first, so that none is used twice whatever happens to the entries.
local numbers, reserved = { 'HSET', outbox }, nil
for n = 1, shards and #entries or 0 do
  local count = (#entries[n] - 1) / 2
  if count > 0 then
    numbers[#numbers + 1] = 'seq:' .. ARGV[HEAD + 2 * n - 2]
    numbers[#numbers + 1] = whole((sequences[n + 3] or 0) + count)
  end
end
if #numbers > 2 then
  reserved = pcall(unpack(numbers))
end
for n = 1, reserved and #entries or 0 do
  local lines, said, shard, sequence = entries[n], reserved, ARGV[HEAD + 2 * n - 2], sequences[n + 3] or '0'
  if #lines > 1 then
    if type(said) == 'number' then
      lines[1] = name .. '.' .. shard .. ' ' .. whole(sequence + 1)
      said = pcall('XADD', outbox .. ':' .. shard, '*', 'e', concat(lines, '\n'))
      if type(said) == 'table' then
        call('HSET', outbox, 'seq:' .. shard, sequence)
      end
    end
    if type(said) == 'table' then
      take_back(n, said.err)
    end
  end
end

if written > 0 then
  call('HSET', generation(newest), unpack(writes))
end
if room > 0 then
  newer = newer - room
  call('HSET', state, 'newer', whole(newer))
end
answers[1] = whole(newer + older) .. ' ' .. (unsent and whole(bound - space) or '')
return concat(answers, '\n')
