//! What is copied between host and GPU in pieces, through memory that the GPU reaches by itself: the host goes on with the next
//! piece, or with its own work, while a piece is on its way.

use std::collections::VecDeque;

use super::driver::Outcome;

/// Memory for a piece.
pub(super) trait Slot {
    /// The memory. It is of the host's from `wait` until it is sent, or until something is received into it.
    fn bytes(&mut self) -> &mut [u8];
    /// Copies its first bytes to the device, behind all that was asked before; does not wait.
    fn send(&mut self, to: u64, count: usize) -> Outcome<()>;
    /// Copies from the device to its first bytes, likewise.
    fn receive(&mut self, from: u64, count: usize) -> Outcome<()>;
    /// Waits for the last copy.
    fn wait(&mut self) -> Outcome<()>;
}

/// Slots that take turns.
#[derive(Debug)]
pub(super) struct Staging<S> {
    slots: Vec<S>,
    turn: usize,
}

impl<S: Slot> Staging<S> {
    /// With these slots, all of a size.
    pub(super) fn new(slots: Vec<S>) -> Self {
        Self { slots, turn: 0 }
    }

    /// The number of the slot whose turn it is.
    fn next(&mut self) -> usize {
        let slot = self.turn;
        self.turn = (slot + 1) % self.slots.len();
        slot
    }

    fn piece(&mut self) -> usize {
        self.slots[0].bytes().len()
    }

    /// Copies to the device. It returns when the last piece is in its slot, so that it waits only if more is under way than all
    /// slots hold.
    pub(super) fn upload(&mut self, to: u64, bytes: &[u8]) -> Outcome<()> {
        let mut place = to;
        for piece in bytes.chunks(self.piece()) {
            let slot = self.next();
            let slot = &mut self.slots[slot];
            slot.wait()?;
            slot.bytes()[..piece.len()].copy_from_slice(piece);
            slot.send(place, piece.len())?;
            place += piece.len() as u64;
        }
        Ok(())
    }

    /// Copies from the device, and waits until all is there.
    pub(super) fn download(&mut self, from: u64, bytes: &mut [u8]) -> Outcome<()> {
        let (mut place, size) = (from, self.piece());
        let mut under_way = VecDeque::with_capacity(self.slots.len());
        for piece in bytes.chunks_mut(size) {
            if under_way.len() == self.slots.len() {
                self.take(&mut under_way)?;
            }
            let slot = self.next();
            // (An upload may still be on its way from it.)
            self.slots[slot].wait()?;
            self.slots[slot].receive(place, piece.len())?;
            place += piece.len() as u64;
            under_way.push_back((slot, piece));
        }
        while !under_way.is_empty() {
            self.take(&mut under_way)?;
        }
        Ok(())
    }

    /// Takes the oldest piece that is under way out of its slot.
    fn take(&mut self, under_way: &mut VecDeque<(usize, &mut [u8])>) -> Outcome<()> {
        if let Some((slot, piece)) = under_way.pop_front() {
            let slot = &mut self.slots[slot];
            slot.wait()?;
            piece.copy_from_slice(&slot.bytes()[..piece.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// A device that does nothing before somebody waits for it: whatever is done to a slot before that shows.
    #[derive(Default)]
    struct Device {
        memory: Vec<u8>,
        waits: usize,
        /// What was asked, in order: the number of the slot, and whether it sends.
        asked: VecDeque<(usize, bool, u64, usize)>,
        slots: Vec<Vec<u8>>,
    }

    struct Lazy {
        device: Rc<RefCell<Device>>,
        number: usize,
        /// What the host sees of it.
        seen: Vec<u8>,
    }

    impl Slot for Lazy {
        fn bytes(&mut self) -> &mut [u8] {
            &mut self.seen
        }

        fn send(&mut self, to: u64, count: usize) -> Outcome<()> {
            let mut device = self.device.borrow_mut();
            device.slots[self.number].copy_from_slice(&self.seen);
            device.asked.push_back((self.number, true, to, count));
            Ok(())
        }

        fn receive(&mut self, from: u64, count: usize) -> Outcome<()> {
            self.device.borrow_mut().asked.push_back((self.number, false, from, count));
            Ok(())
        }

        fn wait(&mut self) -> Outcome<()> {
            let device = &mut *self.device.borrow_mut();
            while device.asked.iter().any(|asked| asked.0 == self.number) {
                device.waits += 1;
                let (slot, sends, place, count) = device.asked.pop_front().ok_or("nothing was asked")?;
                let memory = &mut device.memory[place as usize..][..count];
                if sends {
                    memory.copy_from_slice(&device.slots[slot][..count]);
                } else {
                    device.slots[slot][..count].copy_from_slice(memory);
                }
            }
            self.seen.copy_from_slice(&device.slots[self.number]);
            Ok(())
        }
    }

    const SLOTS: usize = 3;
    const SIZE: usize = 8;

    fn staging() -> (Rc<RefCell<Device>>, Staging<Lazy>) {
        let device = Device { memory: vec![0; 400], slots: vec![vec![0; SIZE]; SLOTS], ..Device::default() };
        let device = Rc::new(RefCell::new(device));
        let lazy = |number| Lazy { device: device.clone(), number, seen: vec![0; SIZE] };
        let slots = (0..SLOTS).map(lazy).collect();
        (device, Staging::new(slots))
    }

    #[test]
    fn what_goes_up_comes_down() {
        for lengths in [[0, 1], [1, 7], [8, 9], [24, 25], [31, 100], [100, 3]] {
            let (_, mut staging) = staging();
            let arrays = lengths.map(|length| (0..length).map(|i| (7 * i + length) as u8).collect::<Vec<u8>>());
            for (index, array) in arrays.iter().enumerate() {
                staging.upload(200 * index as u64, array).expect("an upload");
            }
            for (index, array) in arrays.iter().enumerate() {
                let mut read = vec![0xff; array.len()];
                staging.download(200 * index as u64, &mut read).expect("a download");
                assert_eq!(&read, array, "{lengths:?}");
            }
        }
    }

    #[test]
    fn an_upload_waits_only_where_all_slots_are_under_way() {
        let (device, mut staging) = staging();
        staging.upload(0, &[1; SLOTS * SIZE]).expect("an upload");
        assert_eq!(device.borrow().waits, 0);
        staging.upload(100, &[2; 2 * SIZE]).expect("an upload");
        assert_eq!(device.borrow().waits, 2);
        assert_eq!(&device.borrow().memory[..2 * SIZE], &[1; 2 * SIZE]);
    }
}
