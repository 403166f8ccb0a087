//! Products of 16-bit brain floats with AMX's tiles: 16 rows of 64 bytes each (Intel's Architecture Instruction Set
//! Extensions, chapter 3).

use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

use super::avx512::{load, store, transposed};
use super::bf16::{pack, row_words, word_of, words};
use super::matrix::Matrix;
use super::{Kernel, Output, Tile};

/// Rows and columns of an output: two tiles each way.
const SIZE: usize = 32;
/// Words of a tile's row.
const TILE_WORDS: usize = 16;

/// The kernel. Made only where [`available`] is true.
#[derive(Clone, Copy)]
pub(super) struct Amx;

/// Whether the processor has AMX with 16-bit brain floats, and the operating system lets us use its registers.
pub(crate) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let has = |bit: u32| __cpuid_count(7, 0).edx >> bit & 1 == 1;
        const TILE: u32 = 24;
        const BF16: u32 = 22;
        __cpuid(0).eax >= 7 && has(TILE) && has(BF16) && permitted()
    })
}

/// Asks Linux for the tile registers, which a process gets on request only (`Documentation/arch/x86/xstate.rst`).
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_PRCTL: isize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const XFEATURE_XTILEDATA: usize = 18;
    let mut status = ARCH_PRCTL;
    // SAFETY: the call changes nothing but a permission of this process; the kernel overwrites rcx and r11.
    unsafe {
        asm!("syscall", inout("rax") status, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _, out("r11") _, options(nostack));
    }
    status == 0
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// What `ldtilecfg` reads: every tile has 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static SHAPES: Shapes = Shapes {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

impl Kernel for Amx {
    fn rows(self) -> usize {
        SIZE
    }

    fn columns(self) -> usize {
        SIZE
    }

    fn values_per_word(self) -> usize {
        2
    }

    /// Deep blocks: an output that is read and written again costs more than panels from the second-level cache.
    fn words_per_block(self) -> usize {
        1024
    }

    fn panels_per_task(self) -> usize {
        8
    }

    fn word_multiple(self) -> usize {
        TILE_WORDS
    }

    fn pack_left(self, left: Matrix<'_>, panels: &mut [f32]) {
        // SAFETY: a processor with AMX has AVX-512 with 16-bit brain floats.
        unsafe { pack_rows(left, panels) }
    }

    fn pack_right(self, right: Matrix<'_>, panels: &mut [f32]) {
        let words = super::words(self, right.columns);
        // SAFETY: as above.
        unsafe { pack(right, SIZE, words, panels) }
    }

    fn begin(self) {
        // SAFETY: the instruction reads the 64 bytes of `SHAPES`. The compiler uses no tile registers of its own.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &SHAPES, options(nostack, readonly)) }
    }

    fn end(self) {
        // SAFETY: gives the registers back, so that switching threads need not save them.
        unsafe { asm!("tilerelease", options(nostack, nomem)) }
    }

    fn tile(self, left: &[f32], right: &[f32], output: &mut [f32], tile: Tile) {
        if tile.rows == SIZE && tile.columns == SIZE {
            multiply(left, right, output, tile.row_stride, tile.output);
        } else {
            let mut whole = [0.0; SIZE * SIZE];
            multiply(left, right, &mut whole, SIZE, Output::Replace);
            for (row, values) in whole.chunks_exact(SIZE).enumerate().take(tile.rows) {
                let line = &mut output[row * tile.row_stride..][..tile.columns];
                for (target, value) in line.iter_mut().zip(values) {
                    *target = if tile.output == Output::Add { *target + value } else { *value };
                }
            }
        }
    }
}

/// Packs 32 rows at a time in the order in which they are read: for every 16 words of depth a row's 16 words after the
/// other's.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn pack_rows(left: Matrix<'_>, panels: &mut [f32]) {
    let row_length = super::words(Amx, left.columns);
    for (index, panel) in panels.chunks_exact_mut(SIZE * row_length).enumerate() {
        for (half, first) in [index * SIZE, index * SIZE + TILE_WORDS].into_iter().enumerate() {
            let rows = first.min(left.rows)..(first + TILE_WORDS).min(left.rows);
            let block = left.block(rows, 0..left.columns);
            let tiles = panel.chunks_exact_mut(TILE_WORDS * TILE_WORDS).skip(half).step_by(2);
            for (step, tile) in tiles.enumerate() {
                pack_tile(block, step * TILE_WORDS, tile);
            }
        }
    }
}

/// Packs the words from `first` on of up to 16 rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn pack_tile(block: Matrix<'_>, first: usize, tile: &mut [f32]) {
    let whole = block.rows == TILE_WORDS && 2 * (first + TILE_WORDS) <= block.columns;
    let rows = tile.as_chunks_mut::<TILE_WORDS>().0;
    if whole && block.column_stride == 1 {
        for (row, target) in rows.iter_mut().enumerate() {
            store(target, row_words(&block.from(row, 2 * first)[..2 * TILE_WORDS]));
        }
    } else if whole && block.row_stride == 1 {
        let mut lines = [_mm512_setzero_ps(); TILE_WORDS];
        for (i, line) in lines.iter_mut().enumerate() {
            let depth = 2 * (first + i);
            *line = words(load(&block.from(0, depth)[..16]), load(&block.from(0, depth + 1)[..16]));
        }
        for (line, target) in transposed(lines).into_iter().zip(rows) {
            store(target, line);
        }
    } else {
        for (row, target) in rows.iter_mut().enumerate() {
            for (i, word) in target.iter_mut().enumerate() {
                *word = word_of(block, row, first + i);
            }
        }
    }
}

/// One output of 32 x 32 in four tile registers.
fn multiply(left: &[f32], right: &[f32], output: &mut [f32], row_stride: usize, mode: Output) {
    let row_length = left.len() / SIZE;
    let steps = row_length / TILE_WORDS;
    assert!(steps > 0 && right.len() == row_length * SIZE, "one panel of each");
    assert!(output.len() >= (SIZE - 1) * row_stride + SIZE, "room for the output");
    let (left, right, output) = (left.as_ptr(), right.as_ptr(), output.as_mut_ptr());
    let output_stride = 4 * row_stride;
    // SAFETY: `begin` has set the shapes; the assertions bound every address: 32 rows of 64 bytes a step on the left,
    // 16 lines of 128 bytes a step on the right, 32 rows of 128 bytes in the output.
    unsafe {
        let lower = output.add(16 * row_stride);
        match mode {
            Output::Replace => {
                asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack))
            }
            Output::Add => asm!(
                "tileloadd tmm0, [{upper} + {stride}]",
                "tileloadd tmm1, [{upper} + {stride} + 64]",
                "tileloadd tmm2, [{lower} + {stride}]",
                "tileloadd tmm3, [{lower} + {stride} + 64]",
                upper = in(reg) output, lower = in(reg) lower, stride = in(reg) output_stride, options(nostack)
            ),
        }
        asm!(
            "2:",
            "tileloadd tmm6, [{right} + {line}]",
            "tileloadd tmm4, [{left} + {row}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{right} + {line} + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{left} + {row} + 1024]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {left}, 2048",
            "add {right}, 2048",
            "dec {steps}",
            "jnz 2b",
            right = inout(reg) right => _,
            left = inout(reg) left => _,
            steps = inout(reg) steps => _,
            line = in(reg) 4 * SIZE,
            row = in(reg) 4 * TILE_WORDS,
            options(nostack)
        );
        asm!(
            "tilestored [{upper} + {stride}], tmm0",
            "tilestored [{upper} + {stride} + 64], tmm1",
            "tilestored [{lower} + {stride}], tmm2",
            "tilestored [{lower} + {stride} + 64], tmm3",
            upper = in(reg) output, lower = in(reg) lower, stride = in(reg) output_stride, options(nostack)
        );
    }
}
