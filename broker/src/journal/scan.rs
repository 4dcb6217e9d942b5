//! Reading a log's files: which segments there are, which batches follow each other, and whether
//! what comes after the last one was ever durable.
//!
//! The segments' headers are read first. The log begins with the oldest segment that any header, or any
//! batch of the newest segment, says is needed. From there each batch must name the one before it by
//! its checksum, and a segment's header the place where the one before ended; of several headers that
//! name the same place the newest counts, as each start cuts what the one before left unfinished.
//! Where the chain ends everything that is not part of it is looked through: a whole batch there, as
//! new as the last segment or newer, that says that a batch missing here had been durable makes the end
//! damage (rule 14). Nothing else is evidence.
//!
//! Recovery stops at the first damage. The tools go on with the next segment that belongs to the log,
//! so that an operator sees all of it at once.

use std::collections::BTreeMap;

use super::batch::{BatchHeader, Heading, SegmentHeader, batch_crc, stored_batch_crc};
use super::options::LogOptions;
use super::position::{Geometry, Position, round_up};
use super::record::Damage;
use super::report::{Cut, OpenError};
use super::storage::Storage;
use super::{BATCH_BYTES_MAX, BLOCK_BYTES};
use crate::flaws::{Flaw, Flaws, Sound};
use crate::shard::driver::FileNumber;

/// How much is read at once: a whole batch always fits.
const READ_BYTES: usize = 2 * BATCH_BYTES_MAX;

/// One batch of the log.
pub(super) struct Batch<'a> {
    pub(super) header: BatchHeader,
    pub(super) file: FileNumber,
    pub(super) offset: usize,
    /// All of it, with its header.
    pub(super) bytes: &'a [u8],
}

/// A segment that is part of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chained {
    pub(super) serial: u64,
    pub(super) file: FileNumber,
    pub(super) first_sequence: u64,
    /// Where its last batch ends, rounded up to blocks.
    pub(super) end: usize,
}

/// What a walk over the log found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) segments: Vec<Chained>,
    /// The first segment that is needed; 0 where there is no log yet.
    pub(super) oldest_serial: u64,
    /// The highest serial that any file names.
    pub(super) highest_serial: u64,
    /// Where the last batch ends, rounded up to blocks.
    pub(super) end: Position,
    pub(super) last_sequence: u64,
    pub(super) last_crc: u32,
    pub(super) cut: Option<Cut>,
    /// Files of segments that are not needed, or of none.
    pub(super) spares: Vec<FileNumber>,
    /// Files of segments that were cut off. They may say which segments are needed, so they keep until
    /// the log says so itself.
    pub(super) cut_off: Vec<FileNumber>,
    pub(super) highest_file: u32,
}

/// Reads one shard's files.
pub(super) struct Scanner<'a, S> {
    storage: &'a mut S,
    options: &'a LogOptions,
    geometry: Geometry,
    headers: BTreeMap<u64, (FileNumber, SegmentHeader)>,
    /// Serials by the end that their headers link to.
    links: BTreeMap<Position, Vec<u64>>,
    headless: Vec<FileNumber>,
    walked: Walked,
    buffer: Vec<u8>,
    /// What the buffer holds.
    held: Option<(FileNumber, usize)>,
    /// Nothing more is asked about an end than whether it is damage.
    is_survey: bool,
}

/// Where a walk has come to.
#[derive(Debug, Clone, Copy)]
struct Place {
    serial: u64,
    file: FileNumber,
    offset: usize,
}

/// Takes what is wrong with a file, and from where on it matters.
pub(super) type Find<'a> = &'a mut dyn FnMut(FileNumber, u64, OpenError);

impl<'a, S: Storage> Scanner<'a, S> {
    /// Reads all headers.
    pub(super) fn new(storage: &'a mut S, options: &'a LogOptions) -> Result<Self, OpenError> {
        let mut first = None;
        let scanner = Self::read_headings(storage, options, &mut |_, _, error| {
            first.get_or_insert(error);
        })?;
        first.map_or(Ok(scanner), Err)
    }

    /// Reads the headers that can be read, for [`survey`](Scanner::survey).
    pub(super) fn for_survey(
        storage: &'a mut S,
        options: &'a LogOptions,
        find: Find<'_>,
    ) -> Result<Self, OpenError> {
        let scanner = Self::read_headings(storage, options, find)?;
        Ok(Scanner { is_survey: true, ..scanner })
    }

    fn read_headings(storage: &'a mut S, options: &'a LogOptions, find: Find<'_>) -> Result<Self, OpenError> {
        let geometry = Geometry::new(options.segment_bytes);
        let mut scanner = Scanner {
            storage,
            options,
            geometry,
            headers: BTreeMap::new(),
            links: BTreeMap::new(),
            headless: Vec::new(),
            walked: Walked::default(),
            buffer: Vec::new(),
            held: None,
            is_survey: false,
        };
        for (file, length) in scanner.storage.segments().map_err(OpenError::Read)? {
            if let Err(error) = scanner.read_heading(file, length) {
                find(file, 0, error);
            }
        }
        scanner.walked.highest_serial = scanner.headers.keys().next_back().copied().unwrap_or(0);
        Ok(scanner)
    }

    /// How many segments have headers, needed or not.
    pub(super) fn segment_count(&self) -> u64 {
        self.headers.len() as u64
    }

    fn read_heading(&mut self, file: FileNumber, length: u64) -> Result<(), OpenError> {
        self.walked.highest_file = self.walked.highest_file.max(file.0);
        let mut block = [0; BLOCK_BYTES];
        if length >= BLOCK_BYTES as u64 {
            self.storage.read(file, 0, &mut block).map_err(OpenError::Read)?;
        }
        let options = self.options;
        match SegmentHeader::read(&block, &options.nonce, options.shard, options.segment_bytes) {
            Heading::Foreign(text) => return Err(damage(file, 0, &text)),
            // No crash leaves such a file: it gets its name when it has its length. What was in it is lost, whether
            // it says so or not.
            _ if length != self.geometry.segment_bytes() => {
                let text = format!("the file has {length} bytes of {}", self.geometry.segment_bytes());
                return Err(damage(file, length, &text));
            }
            Heading::Nothing => self.headless.push(file),
            Heading::Valid(header) => {
                self.links.entry(header.previous_end).or_default().push(header.serial);
                if let Some((other, _)) = self.headers.insert(header.serial, (file, header)) {
                    let text = format!("file {} says that it holds the same segment", other.0);
                    return Err(damage(file, 0, &text));
                }
            }
        }
        Ok(())
    }

    /// Follows the log from its beginning to its end and hands every batch to `visit`.
    pub(super) fn walk<F: Flaws>(
        mut self,
        visit: &mut dyn FnMut(&Batch<'_>) -> Result<(), Damage>,
    ) -> Result<Walked, OpenError> {
        if let Some(mut place) = self.first_place()? {
            self.follow::<F>(&mut place, visit)?;
            self.judge_end::<F>(place.serial, Some((place.file, place.offset)))?;
        } else {
            self.judge_end::<F>(0, None)?;
        }
        self.sort_files();
        Ok(self.walked)
    }

    /// Follows the log like [`walk`](Scanner::walk), tells `find` of damage, and goes on with the next
    /// segment behind it.
    pub(super) fn survey(
        mut self,
        visit: &mut dyn FnMut(&Batch<'_>) -> Result<(), Damage>,
        find: Find<'_>,
    ) -> Walked {
        let mut place = match self.first_place() {
            Ok(Some(place)) => Some(place),
            Ok(None) => {
                if let Err(error) = self.judge_end::<Sound>(0, None) {
                    find(FileNumber(self.walked.highest_file), 0, error);
                }
                None
            }
            Err(error) => {
                let first = self.place_behind(self.walked.oldest_serial);
                find(first.map_or(FileNumber(self.walked.highest_file), |place| place.file), 0, error);
                first
            }
        };
        while let Some(mut at) = place {
            let result = self
                .follow::<Sound>(&mut at, visit)
                .and_then(|()| self.judge_end::<Sound>(at.serial, Some((at.file, at.offset))));
            let Err(error) = result else { break };
            find(at.file, at.offset as u64, error);
            place = self.place_behind(at.serial + 1);
        }
        self.sort_files();
        self.walked
    }

    /// Where the log begins; `None` where there is none yet.
    fn first_place(&mut self) -> Result<Option<Place>, OpenError> {
        let oldest_serial = self.find_oldest()?;
        self.walked.oldest_serial = oldest_serial;
        // While nothing says where the log begins it begins with the first batch of all.
        let first = if oldest_serial == 0 { self.successor(0) } else { Some(oldest_serial) };
        let Some(first) = first else { return Ok(None) };
        if !self.headers.contains_key(&first) {
            let (&serial, &(file, _)) = self
                .headers
                .range(oldest_serial..)
                .next()
                .or(self.headers.iter().next_back())
                .expect("a header named it");
            let text = format!("segment {oldest_serial} is missing; this file holds segment {serial}");
            return Err(damage(file, 0, &text));
        }
        Ok(Some(self.begin_at(first)))
    }

    /// The first segment from this one on that no later start has cut off, whatever is before it.
    fn place_behind(&mut self, serial: u64) -> Option<Place> {
        let is_cut_off = |candidate: u64, first_sequence: u64| {
            let mut later = self.headers.range(candidate + 1..);
            later.any(|(_, (_, header))| header.first_sequence <= first_sequence)
        };
        let mut candidates = self.headers.range(serial..);
        let next = candidates.find(|(serial, (_, header))| !is_cut_off(**serial, header.first_sequence));
        let next = next.map(|(serial, _)| *serial)?;
        Some(self.begin_at(next))
    }

    /// Takes a segment's header at its word about what was before.
    fn begin_at(&mut self, serial: u64) -> Place {
        let (file, header) = self.headers[&serial];
        self.walked.end = header.previous_end;
        self.walked.last_sequence = header.first_sequence.saturating_sub(1);
        self.walked.last_crc = header.previous_crc;
        Place { serial, file, offset: BLOCK_BYTES }
    }

    /// Goes from batch to batch until none follows.
    fn follow<F: Flaws>(
        &mut self,
        place: &mut Place,
        visit: &mut dyn FnMut(&Batch<'_>) -> Result<(), Damage>,
    ) -> Result<(), OpenError> {
        loop {
            if let Some(next) = self.successor(place.serial) {
                *place = Place { serial: next, file: self.headers[&next].0, offset: BLOCK_BYTES };
                continue;
            }
            let Place { serial, file, offset } = *place;
            let Some(length) = self.next_batch::<F>(serial, file, offset, visit)? else { return Ok(()) };
            place.offset += round_up(length, BLOCK_BYTES);
            self.chain(serial, file, place.offset);
        }
    }

    /// The oldest segment that is needed; 0 where none was ever known to be on disk.
    fn find_oldest(&mut self) -> Result<u64, OpenError> {
        let Some((&newest, &(file, _))) = self.headers.iter().next_back() else { return Ok(0) };
        let mut oldest = self.headers.values().map(|(_, header)| header.oldest_serial).max().unwrap_or(0);
        // Segments that were freed while the newest was filled are only stated in its batches.
        self.scan(file, BLOCK_BYTES, &mut |_, header| {
            if header.serial == newest {
                oldest = oldest.max(header.oldest_serial);
            }
            false
        })?;
        Ok(oldest)
    }

    /// The segment that goes on where the log has come to: the newest that says so.
    fn successor(&self, serial: u64) -> Option<u64> {
        let candidates = self.links.get(&self.walked.end)?;
        let is_next = |candidate: &&u64| {
            let header = &self.headers[*candidate].1;
            **candidate > serial
                && header.previous_crc == self.walked.last_crc
                && header.first_sequence == self.walked.last_sequence + 1
        };
        candidates.iter().filter(is_next).max().copied()
    }

    /// Visits the batch at this place, if it is the next one of the log; returns its length.
    fn next_batch<F: Flaws>(
        &mut self,
        serial: u64,
        file: FileNumber,
        offset: usize,
        visit: &mut dyn FnMut(&Batch<'_>) -> Result<(), Damage>,
    ) -> Result<Option<usize>, OpenError> {
        let Some((header, is_whole)) = self.batch_at(file, offset)? else { return Ok(None) };
        let follows = header.serial == serial
            && header.sequence == self.walked.last_sequence + 1
            && header.previous_crc == self.walked.last_crc;
        if !follows || !(is_whole || F::has(Flaw::TakeTornTailAsWhole)) {
            return Ok(None);
        }
        let start = self.fill(file, offset, header.length as usize)?;
        let bytes = &self.buffer[start..start + header.length as usize];
        let result = visit(&Batch { header, file, offset, bytes });
        let crc = stored_batch_crc(bytes);
        if is_whole {
            result.map_err(|reason| damage(file, offset as u64, &reason.to_string()))?;
        }
        self.walked.last_sequence = header.sequence;
        self.walked.last_crc = crc;
        Ok(Some(header.length as usize))
    }

    /// Notes that the log goes up to `end` of this segment.
    fn chain(&mut self, serial: u64, file: FileNumber, end: usize) {
        self.walked.end = self.geometry.position(serial, end);
        match self.walked.segments.last_mut() {
            Some(last) if last.serial == serial => last.end = end,
            _ => {
                let first_sequence = self.walked.last_sequence;
                self.walked.segments.push(Chained { serial, file, first_sequence, end });
            }
        }
    }

    /// Looks through everything behind the log's end, given the segment and place where it lies.
    fn judge_end<F: Flaws>(
        &mut self,
        serial: u64,
        place: Option<(FileNumber, usize)>,
    ) -> Result<(), OpenError> {
        let mut files: Vec<(FileNumber, usize)> = place.into_iter().collect();
        let chained: Vec<FileNumber> = self.walked.segments.iter().map(|segment| segment.file).collect();
        let others = self.headers.values().map(|(file, _)| *file).chain(self.headless.iter().copied());
        let is_other =
            |file: &FileNumber| !chained.contains(file) && place.is_none_or(|(end, _)| end != *file);
        files.extend(others.filter(is_other).map(|file| (file, BLOCK_BYTES)));
        let missing = self.walked.last_sequence + 1;
        let mut highest = self.walked.highest_serial;
        let mut proof = None;
        let mut left_out = None;
        let is_survey = self.is_survey;
        for (file, from) in files {
            self.scan(file, from, &mut |offset, header| {
                if header.serial < serial {
                    return false;
                }
                highest = highest.max(header.serial);
                left_out.get_or_insert((file, offset));
                if header.durable_sequence >= missing {
                    proof.get_or_insert((file, offset));
                }
                is_survey && proof.is_some()
            })?;
            if is_survey && proof.is_some() {
                break;
            }
        }
        self.walked.highest_serial = highest;
        if let Some((file, offset)) = proof
            && !F::has(Flaw::CutDamageAsTornTail)
        {
            let (at, at_offset) = place.unwrap_or((file, offset));
            let text = format!(
                "batch {missing} is not there as it was written, though file {} proves at byte {offset} that it \
                 was on disk",
                file.0
            );
            return Err(damage(at, at_offset as u64, &text));
        }
        if let Some((file, offset)) = place {
            let begun = self.batch_at(file, offset)?;
            if left_out.is_some() || begun.is_some_and(|(header, _)| header.serial == serial) {
                left_out = place;
            }
        }
        self.walked.cut = left_out.map(|(file, offset)| Cut { file, offset: offset as u64 });
        Ok(())
    }

    /// Says what each file that is no part of the log is good for.
    fn sort_files(&mut self) {
        let walked = &mut self.walked;
        for (serial, (file, _)) in &self.headers {
            if walked.segments.iter().any(|segment| segment.serial == *serial) {
                continue;
            }
            let list = if *serial < walked.oldest_serial { &mut walked.spares } else { &mut walked.cut_off };
            list.push(*file);
        }
        walked.spares.append(&mut self.headless);
        walked.spares.sort();
    }

    /// Hands every whole batch of this folder in a file, from a block on, to `visit`, until that
    /// returns true.
    fn scan(
        &mut self,
        file: FileNumber,
        from: usize,
        visit: &mut dyn FnMut(usize, &BatchHeader) -> bool,
    ) -> Result<(), OpenError> {
        let segment_bytes = self.options.segment_bytes as usize;
        let mut offset = from;
        while offset < segment_bytes {
            let step = match self.batch_at(file, offset)? {
                Some((header, true)) => {
                    if visit(offset, &header) {
                        return Ok(());
                    }
                    round_up(header.length as usize, BLOCK_BYTES)
                }
                _ => BLOCK_BYTES,
            };
            offset += step;
        }
        Ok(())
    }

    /// What looks like a batch at this place, and whether its checksum holds.
    fn batch_at(
        &mut self,
        file: FileNumber,
        offset: usize,
    ) -> Result<Option<(BatchHeader, bool)>, OpenError> {
        let segment_bytes = self.options.segment_bytes as usize;
        if offset >= segment_bytes {
            return Ok(None);
        }
        let start = self.fill(file, offset, BLOCK_BYTES)?;
        let Some(header) = BatchHeader::read(&self.buffer[start..]) else { return Ok(None) };
        let length = header.length as usize;
        if header.block as usize != offset / BLOCK_BYTES || offset + length > segment_bytes {
            return Ok(None);
        }
        let start = self.fill(file, offset, length)?;
        let batch = &self.buffer[start..start + length];
        let is_whole = stored_batch_crc(batch) == batch_crc(batch, &self.options.nonce);
        Ok(Some((header, is_whole)))
    }

    /// Makes sure that the buffer holds these bytes of a file, and returns where they begin in it.
    fn fill(&mut self, file: FileNumber, offset: usize, length: usize) -> Result<usize, OpenError> {
        if let Some((held, start)) = self.held
            && held == file
            && start <= offset
            && offset + length <= start + self.buffer.len()
        {
            return Ok(offset - start);
        }
        let segment_bytes = self.options.segment_bytes as usize;
        let wanted = length.max(READ_BYTES).min(segment_bytes - offset);
        self.held = None;
        self.buffer.resize(wanted, 0);
        self.storage.read(file, offset as u64, &mut self.buffer).map_err(OpenError::Read)?;
        self.held = Some((file, offset));
        Ok(0)
    }
}

fn damage(file: FileNumber, offset: u64, reason: &str) -> OpenError {
    OpenError::Damage { file, offset, text: reason.to_owned() }
}
