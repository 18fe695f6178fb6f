/**
 * How fast are the kernels, against plain JavaScript over Float32Arrays and against memcpy (TypedArray.set)?
 *
 *     npx tsx test/bench/kernels.ts
 *
 * Three sizes, in ranges with an instance each, as the coordinator holds them: 4,194,304 floats; 1,665,010, which is
 * 784-500-500-2000-10, the net of the other benches, and whose figures are the ones without a size; and 55,386, a small
 * net. Adam of the largest goes over 50 MB, more than a core of this kind of server reliably gets of the last cache:
 * its figure says how memory does that day. JavaScript works on one array of all the floats. The update rules go block
 * by block, with a gradient that is in the cache, for that is how the coordinator folds an update (parameters.ts);
 * JavaScript has its gradient in the cache, too. The last row is the whole of that fold. The memcpy of a row moves as
 * many bytes in all, read and written, as the row's kernel does, so `× memcpy` is 1 when the kernel is as fast as
 * memory.
 *
 * The three take turns, several rounds; times are medians. A turn warms up before it is timed, because this kind of
 * server slows its memory down while little is asked of it: after 12 ms of anything that stays in the cache or is as
 * slow as plain JavaScript, a pass over 24 MB takes 2.6 times as long, and it takes 50-150 ms to recover. A
 * coordinator that applies an update now and then sees the slow kind: that is the column `first ms`, the first run
 * of a turn, which follows JavaScript's.
 */
import { Parameters } from '../../coordinator/parameters/parameters.ts'
import { updateRule } from '../../coordinator/parameters/update-rule.ts'
import { BLOCK_FLOATS } from '../../coordinator/parameters/vectors.ts'
import { createKernels, INT8_BLOCK, int8Size, type Kernels } from '../../shared/kernels/kernels.ts'
import { layout, RANGE_FLOATS } from '../../shared/layout.ts'
import { Random } from '../../shared/random.ts'
import { median, type Row, report } from './report.ts'

const LARGE = 16 * RANGE_FLOATS
const NET = 1_665_010
const SMALL = 55_386
/** Small vectors are done so often per timing that one timing lasts some tenths of a millisecond at least. */
const SMALL_LOOPS = 20
const ROUNDS = 4
/** A vector that stays in the cache needs no waking of the memory, only its compiled code. */
const warmUpMs = (floats: number) => (floats === SMALL ? 20 : 200)
const TIMED_MS = 50

/** Vectors of one range, in one instance. */
class Part {
  readonly kernels: Kernels
  readonly count: number
  readonly w: number
  readonly g: number
  readonly m: number
  readonly v: number
  readonly f16: number
  readonly int8: number
  /** The same parameters as the coordinator has them, and an update of them. */
  readonly parameters: Parameters
  readonly update: Uint8Array

  constructor(count: number, values: Float32Array) {
    const kernels = createKernels()
    this.kernels = kernels
    this.count = count
    this.w = kernels.reserve(4 * count)
    this.g = kernels.reserve(4 * count)
    this.m = kernels.reserve(4 * count)
    this.v = kernels.reserve(4 * count)
    this.f16 = kernels.reserve(2 * count)
    this.int8 = kernels.reserve(int8Size(count))
    for (const vector of [this.w, this.g]) kernels.floats(vector, count).set(values)
    kernels.encodeF16(this.g, count, this.f16)
    kernels.encodeInt8(this.g, count, this.int8)
    this.update = kernels.bytes(this.int8, int8Size(count)).slice()
    const all = layout([{ name: 'all', shape: [count], init: { kind: 'zeros' } }])
    this.parameters = new Parameters(all, updateRule({ name: 'adam', ...adamScalars }), values)
  }
}

/** The same vectors as plain arrays. */
interface Plain {
  readonly w: Float32Array
  readonly g: Float32Array
  readonly m: Float32Array
  readonly v: Float32Array
  readonly f16: Uint16Array
  readonly scales: Float32Array
  readonly q: Int8Array
}

interface Contest {
  readonly name: string
  /** Bytes read and written, per float. */
  readonly traffic: number
  readonly kernel: (part: Part) => void
  readonly plain: (on: Plain) => void
}

const rate = 0.01
const weight = 0.7
const epsilon = 1e-8
const adamScalars = { rate, beta1: 0.9, beta2: 0.999, epsilon, weightDecay: 0.01 }
const corrections = { correction1: 1 / (1 - 0.9 ** 10), correction2: 1 / (1 - 0.999 ** 10) }

const halves = new Float32Array(65536)
const decoder = createKernels()
{
  const bits = decoder.reserve(2 * 65536)
  const floats = decoder.reserve(4 * 65536)
  new Uint16Array(decoder.bytes(bits, 2 * 65536).buffer, bits, 65536).forEach((_, i, all) => {
    all[i] = i
  })
  decoder.decodeF16(bits, 65536, floats)
  halves.set(decoder.floats(floats, 65536))
}

let sink = 0

/**
 * A rule's kernel as the coordinator calls it: `offset`, in bytes, and `count` floats of a block, with its gradient.
 */
const inBlocks = (step: (on: Part, offset: number, count: number) => void) => (on: Part) =>
  eachBlock(on.count, (from, count) => step(on, 4 * from, count))

function eachBlock(floats: number, step: (from: number, count: number) => void): void {
  for (let from = 0; from < floats; from += BLOCK_FLOATS) step(from, Math.min(BLOCK_FLOATS, floats - from))
}

const contests: Contest[] = [
  {
    name: 'decode int8',
    traffic: 1 + 4 / INT8_BLOCK + 4,
    kernel: (on) => on.kernels.decodeInt8(on.int8, on.count, on.m),
    plain: ({ q, scales, m }) => {
      for (let from = 0; from < q.length; from += INT8_BLOCK) {
        const scale = scales[from / INT8_BLOCK]
        const to = Math.min(q.length, from + INT8_BLOCK)
        for (let i = from; i < to; i++) m[i] = q[i] * scale
      }
    },
  },
  {
    name: 'decode f16',
    traffic: 6,
    kernel: (on) => on.kernels.decodeF16(on.f16, on.count, on.m),
    plain: ({ f16, m }) => {
      for (let i = 0; i < f16.length; i++) m[i] = halves[f16[i]]
    },
  },
  {
    name: 'encode int8',
    traffic: 1 + 4 / INT8_BLOCK + 4,
    kernel: (on) => on.kernels.encodeInt8(on.g, on.count, on.int8),
    plain: ({ g, scales, q }) => {
      for (let from = 0; from < q.length; from += INT8_BLOCK) {
        const to = Math.min(q.length, from + INT8_BLOCK)
        let largest = 0
        for (let i = from; i < to; i++) {
          const magnitude = Math.abs(g[i])
          if (magnitude > largest) largest = magnitude
        }
        const scale = largest / 127
        scales[from / INT8_BLOCK] = scale
        for (let i = from; i < to; i++) q[i] = Math.round(g[i] / scale)
      }
    },
  },
  {
    name: 'encode f16',
    traffic: 6,
    kernel: (on) => on.kernels.encodeF16(on.g, on.count, on.f16),
    plain: ({ g, f16 }) => {
      const bits = new Uint32Array(g.buffer)
      for (let i = 0; i < f16.length; i++) {
        const sign = (bits[i] >>> 16) & 0x8000
        const x = bits[i] & 0x7fffffff
        // Normal halves and subnormal ones; no test for overflow, which this vector does not need.
        f16[i] =
          x >= 0x38800000
            ? sign | ((x + 0xc8000fff + ((x >>> 13) & 1)) >>> 13)
            : sign | Math.round(Math.abs(g[i]) * 0x1000000)
      }
    },
  },
  {
    name: 'sumSquares of f32',
    traffic: 4,
    kernel: (on) => {
      sink += on.kernels.sumSquares(on.g, on.count)
    },
    plain: ({ g }) => {
      let total = 0
      for (let i = 0; i < g.length; i++) total += g[i] * g[i]
      sink += total
    },
  },
  {
    name: 'sumSquares of f16',
    traffic: 2,
    kernel: (on) => {
      sink += on.kernels.sumSquaresF16(on.f16, on.count)
    },
    plain: ({ f16 }) => {
      let total = 0
      for (let i = 0; i < f16.length; i++) {
        const value = halves[f16[i]]
        total += value * value
      }
      sink += total
    },
  },
  {
    name: 'sumSquares of int8',
    traffic: 1 + 4 / INT8_BLOCK,
    kernel: (on) => {
      sink += on.kernels.sumSquaresInt8(on.int8, on.count)
    },
    plain: ({ q, scales }) => {
      let total = 0
      for (let from = 0; from < q.length; from += INT8_BLOCK) {
        const to = Math.min(q.length, from + INT8_BLOCK)
        let squares = 0
        for (let i = from; i < to; i++) squares += q[i] * q[i]
        total += scales[from / INT8_BLOCK] ** 2 * squares
      }
      sink += total
    },
  },
  {
    name: 'accumulate',
    traffic: 12,
    kernel: (on) => on.kernels.accumulate(on.m, on.g, on.count, 1e-3),
    plain: ({ m, g }) => {
      for (let i = 0; i < m.length; i++) m[i] += 1e-3 * g[i]
    },
  },
  {
    name: 'scale',
    traffic: 8,
    kernel: (on) => on.kernels.scale(on.g, on.count, 1),
    plain: ({ g }) => {
      for (let i = 0; i < g.length; i++) g[i] *= 1
    },
  },
  {
    name: 'sgd',
    traffic: 8,
    kernel: inBlocks(({ kernels, w, g }, offset, count) => kernels.sgd(w + offset, g, count, { weight, rate })),
    plain: ({ w, g }) => {
      eachBlock(w.length, (from, count) => {
        for (let k = 0; k < count; k++) w[from + k] -= rate * weight * g[k]
      })
    },
  },
  {
    name: 'momentum',
    traffic: 16,
    kernel: inBlocks(({ kernels, w, g, m }, offset, count) =>
      kernels.momentum(w + offset, g, m + offset, count, { weight, rate, momentum: 0.9 }),
    ),
    plain: ({ w, g, m }) => {
      eachBlock(w.length, (from, count) => {
        for (let k = 0, i = from; k < count; k++, i++) {
          const velocity = 0.9 * m[i] + weight * g[k]
          m[i] = velocity
          w[i] -= rate * velocity
        }
      })
    },
  },
  {
    name: 'adagrad',
    traffic: 16,
    kernel: inBlocks(({ kernels, w, g, v }, offset, count) =>
      kernels.adagrad(w + offset, g, v + offset, count, { weight, rate, epsilon }),
    ),
    plain: ({ w, g, v }) => {
      eachBlock(w.length, (from, count) => {
        for (let k = 0, i = from; k < count; k++, i++) {
          const gradient = weight * g[k]
          const squares = v[i] + gradient * gradient
          v[i] = squares
          w[i] -= (rate * gradient) / (Math.sqrt(squares) + epsilon)
        }
      })
    },
  },
  {
    name: 'adam',
    traffic: 24,
    kernel: inBlocks(({ kernels, w, g, m, v }, offset, count) =>
      kernels.adam(w + offset, g, m + offset, v + offset, count, { weight, ...adamScalars, ...corrections }),
    ),
    plain: ({ w, g, m, v }) => {
      eachBlock(w.length, (from, count) => adamInJavaScript(w, g, m, v, from, count))
    },
  },
  {
    name: 'adam of an int8 update',
    traffic: 24 + 1 + 4 / INT8_BLOCK,
    kernel: ({ update, parameters }) => parameters.apply('int8', [{ payload: update, weight }], { rate, epoch: 0 }),
    plain: ({ w, g, m, v, q, scales }) => {
      eachBlock(w.length, (from, count) => {
        for (let at = 0; at < count; at += INT8_BLOCK) {
          const scale = scales[(from + at) / INT8_BLOCK]
          const end = Math.min(count, at + INT8_BLOCK)
          for (let k = at; k < end; k++) g[k] = q[from + k] * scale
        }
        adamInJavaScript(w, g, m, v, from, count)
      })
    },
  },
]

/** A step over `count` floats from `from` on, whose gradients are the first of g. */
function adamInJavaScript(
  w: Float32Array,
  g: Float32Array,
  m: Float32Array,
  v: Float32Array,
  from: number,
  count: number,
) {
  const { beta1, beta2, weightDecay } = adamScalars
  const { correction1, correction2 } = corrections
  for (let k = 0, i = from; k < count; k++, i++) {
    const gradient = weight * g[k]
    const mean = beta1 * m[i] + (1 - beta1) * gradient
    const square = beta2 * v[i] + (1 - beta2) * gradient * gradient
    m[i] = mean
    v[i] = square
    w[i] -= rate * ((correction1 * mean) / (Math.sqrt(correction2 * square) + epsilon) + weightDecay * w[i])
  }
}

interface Turn {
  /** The first run, which follows other work. */
  readonly firstMs: number
  readonly warmMs: number[]
}

function turn(floats: number, work: () => void): Turn {
  const loops = floats === SMALL ? SMALL_LOOPS : 1
  const run = () => {
    const start = performance.now()
    for (let i = 0; i < loops; i++) work()
    return (performance.now() - start) / loops
  }
  const begin = performance.now()
  const firstMs = run()
  while (performance.now() - begin < warmUpMs(floats)) run()
  const warmMs: number[] = []
  while (warmMs.length < 2 || performance.now() - begin < warmUpMs(floats) + TIMED_MS) warmMs.push(run())
  return { firstMs, warmMs }
}

function compete({ kernel, plain, traffic }: Contest, parts: Part[], on: Plain, from: Float32Array, to: Float32Array) {
  const floats = on.w.length
  const copied = Math.round((traffic * floats) / 2 / 4)
  const source = from.subarray(0, copied)
  const target = to.subarray(0, copied)
  const turns = { kernel: [] as Turn[], plain: [] as Turn[], memcpy: [] as Turn[] }
  for (let round = 0; round < ROUNDS; round++) {
    turns.plain.push(turn(floats, () => plain(on)))
    turns.kernel.push(
      turn(floats, () => {
        for (const part of parts) kernel(part)
      }),
    )
    turns.memcpy.push(turn(floats, () => target.set(source)))
  }
  const warm = (of: Turn[]) => median(of.flatMap(({ warmMs }) => warmMs))
  return {
    kernelMs: warm(turns.kernel),
    firstMs: median(turns.kernel.map(({ firstMs }) => firstMs)),
    plainMs: warm(turns.plain),
    memcpyMs: warm(turns.memcpy),
  }
}

const rows: Row[] = []
const figures: Record<string, number> = {}

for (const floats of [LARGE, NET, SMALL]) {
  const random = new Random(7)
  const values = Float32Array.from({ length: floats }, (_, i) => (random.uniform(i) - 0.5) * 0.2)
  const parts: Part[] = []
  for (let from = 0; from < floats; from += RANGE_FLOATS) {
    const piece = values.subarray(from, Math.min(floats, from + RANGE_FLOATS))
    parts.push(new Part(piece.length, piece))
  }
  const plain: Plain = {
    w: values.slice(),
    g: values.slice(),
    m: new Float32Array(floats),
    v: new Float32Array(floats),
    f16: new Uint16Array(floats),
    scales: new Float32Array(Math.ceil(floats / INT8_BLOCK)),
    q: new Int8Array(floats),
  }
  contests.find(({ name }) => name === 'encode f16')!.plain(plain)
  contests.find(({ name }) => name === 'encode int8')!.plain(plain)
  const most = Math.ceil((Math.max(...contests.map(({ traffic }) => traffic)) * floats) / 8)
  const from = new Float32Array(most).fill(1)
  const to = new Float32Array(most)

  for (const contest of contests) {
    const { kernelMs, firstMs, plainMs, memcpyMs } = compete(contest, parts, plain, from, to)
    rows.push({
      floats,
      kernel: contest.name,
      'kernel ms': kernelMs,
      'first ms': firstMs,
      'JavaScript ms': plainMs,
      'memcpy ms': memcpyMs,
      '× JavaScript': plainMs / kernelMs,
      '× memcpy': memcpyMs / kernelMs,
      'GB/s': (contest.traffic * floats) / kernelMs / 1e6,
    })
    const size = { [LARGE]: '4M', [NET]: '' }[floats]
    if (size === undefined) continue
    if (contest.name === 'adagrad') figures[`adagradOverJs${size}`] = plainMs / kernelMs
    if (contest.name === 'adam') figures[`adamOverJs${size}`] = plainMs / kernelMs
    if (contest.name === 'decode int8') figures[`decodeInt8OverJs${size}`] = plainMs / kernelMs
    if (contest.name === 'adagrad') figures[`adagradOverMemcpy${size}`] = memcpyMs / kernelMs
  }
}

if (!Number.isFinite(sink)) throw new Error('a sum of squares was not finite')
report('kernels', rows, figures)
