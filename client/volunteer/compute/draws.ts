/**
 * Random numbers for a minibatch: of every example's own generator, so that what a lease comes to depends neither on
 * how it was cut into minibatches nor on who computes it.
 */
import { createKernels, type Kernels } from '../../../shared/kernels/kernels.ts'
import { Random } from '../../../shared/random.ts'

/** Which numbers: draws `first` … `first` + `each` - 1 of Random(key, ...path), for every example's key. */
export interface Draws {
  /** Two words an example. */
  readonly keys: Uint32Array
  readonly path: readonly number[]
  readonly first: number
  readonly each: number
}

let kernels: Kernels | null = null
let room = 0
let roomFloats = 0

/** Room for so many draws: one piece of memory for all, used again by the next call. */
function reserve(draws: number): { kernels: Kernels; at: number } {
  if (kernels === null || draws > roomFloats) {
    // A kernel instance frees nothing, so a larger room is another instance's.
    kernels = createKernels()
    roomFloats = draws
    room = kernels.reserve(4 * draws)
  }
  return { kernels, at: room }
}

function draw(
  { keys, path, first, each }: Draws,
  kernel: (kernels: Kernels, random: Random, first: number, count: number, target: number) => void,
): { kernels: Kernels; at: number; total: number } {
  const examples = keys.length / 2
  const { kernels, at } = reserve(examples * each)
  for (let example = 0; example < examples; example++) {
    const random = new Random({ key0: keys[2 * example], key1: keys[2 * example + 1] }, ...path)
    kernel(kernels, random, first, each, at + 4 * each * example)
  }
  return { kernels, at, total: examples * each }
}

/** examples × each 32-bit words; a view that the next draw ends. */
function drawWords(draws: Draws): Uint32Array {
  const { kernels, at, total } = draw(draws, (kernels, ...of) => kernels.words(...of))
  const { buffer } = kernels.bytes(at, 4 * total)
  return new Uint32Array(buffer, at, total)
}

/** examples × each floats in [0, 1), of 24 bits; a view that the next draw ends. */
export function drawUniforms(draws: Draws): Float32Array {
  const { kernels, at, total } = draw(draws, (kernels, ...of) => kernels.uniforms(...of))
  return kernels.floats(at, total)
}

/** examples × each floats, 0 where the draw is below `rate`, else 1/(1 - rate); a view that the next draw ends. */
export function drawMasks(draws: Draws, rate: number): Float32Array {
  const how = { rate, keep: 1 / (1 - rate) }
  const { kernels, at, total } = draw(draws, (kernels, ...of) => kernels.masks(...of, how))
  return kernels.floats(at, total)
}

/** examples × each standard normals, as Random.normal has them (its draws 2i and 2i + 1). */
export function drawNormals({ keys, path, first, each }: Draws): Float32Array {
  const words = drawWords({ keys, path, first: 2 * first, each: 2 * each })
  return Float32Array.from({ length: words.length / 2 }, (_, i) => {
    const radius = Math.sqrt(-2 * Math.log(1 - words[2 * i] / 0x100000000))
    return radius * Math.cos((2 * Math.PI * words[2 * i + 1]) / 0x100000000)
  })
}
