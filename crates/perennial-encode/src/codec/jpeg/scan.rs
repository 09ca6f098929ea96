//! Walking through the blocks of a scan.

use super::bits::{Bits, HuffmanTable, Stop};
use super::defect::Defect;

impl From<Stop> for Defect {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::End => Self::Cut,
            Stop::NoCode => Self::Damaged,
        }
    }
}

/// One colour of a frame.
pub(super) struct Component {
    id: u8,
    across: usize,
    down: usize,
    /// Blocks that the picture covers, `[columns, rows]`.
    blocks: [usize; 2],
    /// Blocks of a row, those beyond the picture's edge included.
    stride: usize,
    /// Which coefficients of each block are not zero; only for progressive files.
    nonzero: Vec<u64>,
    /// How many low bits of each coefficient are still to come; `None` before its first scan.
    missing_bits: [Option<u8>; 64],
}

impl Component {
    /// `across` and `down` are the sampling factors.
    pub(super) fn new(id: u8, across: u8, down: u8) -> Self {
        Self {
            id,
            across: across.into(),
            down: down.into(),
            blocks: [0; 2],
            stride: 0,
            nonzero: Vec::new(),
            missing_bits: [None; 64],
        }
    }
}

/// The picture as its header describes it.
pub(super) struct Frame {
    progressive: bool,
    /// Units of an interleaved scan, `[columns, rows]`.
    units: [usize; 2],
    components: Vec<Component>,
}

impl Frame {
    /// `None` without components.
    pub(super) fn new(
        width: usize,
        height: usize,
        progressive: bool,
        mut components: Vec<Component>,
    ) -> Option<Self> {
        let across = components.iter().map(|component| component.across).max()?;
        let down = components.iter().map(|component| component.down).max()?;
        let units = [width.div_ceil(8 * across), height.div_ceil(8 * down)];
        for component in &mut components {
            component.blocks = [
                (width * component.across).div_ceil(8 * across),
                (height * component.down).div_ceil(8 * down),
            ];
            component.stride = units[0] * component.across;
            if progressive {
                component.nonzero = vec![0; component.stride * units[1] * component.down];
            }
        }
        Some(Self {
            progressive,
            units,
            components,
        })
    }

    pub(super) fn index_of(&self, id: u8) -> Option<usize> {
        self.components
            .iter()
            .position(|component| component.id == id)
    }

    /// Whether every component has all of its coefficients in full precision.
    pub(super) fn is_complete(&self) -> bool {
        self.components.iter().all(|component| {
            let bits = &component.missing_bits;
            bits.iter().all(|missing| *missing == Some(0))
        })
    }
}

/// A component's part in a scan.
pub(super) struct ScanComponent<'a> {
    pub(super) index: usize,
    pub(super) dc: Option<&'a HuffmanTable>,
    pub(super) ac: Option<&'a HuffmanTable>,
}

/// A scan as its header describes it.
pub(super) struct Scan<'a> {
    components: Vec<ScanComponent<'a>>,
    /// First and last coefficient.
    band: [usize; 2],
    /// Whether bits are added to what an earlier scan coded.
    refines: bool,
    /// Low bits that later scans add.
    low: u8,
}

impl<'a> Scan<'a> {
    /// `None` for a scan that makes no sense, or lacks a table.
    pub(super) fn new(
        frame: &Frame,
        components: Vec<ScanComponent<'a>>,
        band: [u8; 2],
        precision: u8,
    ) -> Option<Self> {
        let scan = Self {
            components,
            band: band.map(usize::from),
            refines: precision >> 4 > 0,
            low: precision & 15,
        };
        let [start, end] = scan.band;
        let shape = match frame.progressive {
            true => end < 64 && (start == 0 && end == 0 || 0 < start && start <= end),
            false => scan.band == [0, 63] && precision == 0,
        };
        let tables = scan.components.iter().all(|component| {
            let needs_dc = start == 0 && !scan.refines;
            let needs_ac = end > 0;
            (!needs_dc || component.dc.is_some()) && (!needs_ac || component.ac.is_some())
        });
        let count = match start {
            0 => scan.components.len() <= 4,
            _ => scan.components.len() == 1,
        };
        (shape && tables && count && !scan.components.is_empty()).then_some(scan)
    }
}

/// Walks through every block of a scan.
///
/// **Errors**: blocks that are missing, or bits that do not form a block.
pub(super) fn check_scan(
    frame: &mut Frame,
    scan: &Scan<'_>,
    restart_interval: usize,
    coded: &[u8],
) -> Result<(), Defect> {
    let mut bits = Bits::new(coded);
    // Blocks that a progressive scan declares empty, from the current one on.
    let mut empty = 0;
    let interleaved = scan.components.len() > 1;
    let [columns, rows] = match scan.components.first() {
        Some(only) if !interleaved => frame.components[only.index].blocks,
        _ => frame.units,
    };
    for unit in 0..columns * rows {
        if restart_interval > 0 && unit > 0 && unit % restart_interval == 0 {
            if !bits.restart() {
                return Err(Defect::Cut);
            }
            empty = 0;
        }
        let (row, column) = (unit / columns, unit % columns);
        for part in &scan.components {
            let component = &mut frame.components[part.index];
            let [across, down] = match interleaved {
                true => [component.across, component.down],
                false => [1, 1],
            };
            for block in 0..across * down {
                if !frame.progressive {
                    sequential(&mut bits, part)?;
                    continue;
                }
                let at = (row * down + block / across) * component.stride
                    + column * across
                    + block % across;
                let nonzero = component.nonzero.get_mut(at).ok_or(Defect::Damaged)?;
                progressive(&mut bits, part, scan, nonzero, &mut empty)?;
            }
        }
    }
    for part in &scan.components {
        for missing in &mut frame.components[part.index].missing_bits[scan.band[0]..=scan.band[1]] {
            *missing = Some(scan.low);
        }
    }
    Ok(())
}

fn sequential(bits: &mut Bits<'_>, part: &ScanComponent<'_>) -> Result<(), Defect> {
    let (Some(dc), Some(ac)) = (part.dc, part.ac) else {
        return Err(Defect::Damaged);
    };
    let size = bits.symbol(dc)?;
    bits.skip(u32::from(size & 31))?;
    let mut coefficient = 1;
    while coefficient < 64 {
        coefficient += u32::from(bits.step(ac)?);
    }
    Ok(())
}

fn progressive(
    bits: &mut Bits<'_>,
    part: &ScanComponent<'_>,
    scan: &Scan<'_>,
    nonzero: &mut u64,
    empty: &mut u32,
) -> Result<(), Defect> {
    let [start, end] = scan.band;
    if start == 0 {
        return match (scan.refines, part.dc) {
            (true, _) => Ok(bits.skip(1)?),
            (false, Some(dc)) => {
                let size = bits.symbol(dc)?;
                Ok(bits.skip(u32::from(size & 31))?)
            }
            (false, None) => Err(Defect::Damaged),
        };
    }
    let ac = part.ac.ok_or(Defect::Damaged)?;
    let mut at = start;
    while *empty == 0 && at <= end {
        let symbol = bits.symbol(ac)?;
        let (mut run, size) = (symbol >> 4, symbol & 15);
        if size == 0 && run < 15 {
            *empty = (1 << run) + bits.take(run.into())?;
            break;
        }
        // A new coefficient: its sign in a refining scan, all of its bits otherwise.
        match (scan.refines, size) {
            (true, 0) => {}
            (true, _) => bits.skip(1)?,
            (false, size) => bits.skip(size.into())?,
        }
        while at <= end {
            if scan.refines && *nonzero >> at & 1 == 1 {
                bits.skip(1)?;
            } else if run == 0 {
                break;
            } else {
                run -= 1;
            }
            at += 1;
        }
        if size > 0 {
            if at > end {
                return Err(Defect::Damaged);
            }
            *nonzero |= 1 << at;
        }
        at += 1;
    }
    if *empty > 0 {
        if scan.refines && at <= end {
            let rest = *nonzero >> at & (u64::MAX >> (63 - (end - at)));
            for _ in 0..rest.count_ones() {
                bits.skip(1)?;
            }
        }
        *empty -= 1;
    }
    Ok(())
}
