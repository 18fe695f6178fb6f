/**
 * The books of a lease, the same for whatever is trained: a replica that moves, gradients that accrue, sums, and one
 * transfer of them all from the device at the end. What is trained, the learner, only knows a minibatch's gradient.
 *
 * It promises: the gradient comes back in layout order; every tensor made for a lease is disposed with it (and between
 * steps their number stays the same); one transfer from the device per lease; no work for a replica that nobody
 * asks for.
 */
import * as tf from '@tensorflow/tfjs-core'
import type { Layout } from '../../../shared/layout.ts'
import { Outcomes } from '../../../shared/outcomes.ts'
import { elementsOf } from '../../../shared/shape.ts'
import type { Backend } from './backends/backend.ts'
import type { Minibatch, Trainer } from './engine.ts'

/** Sums that every objective has: loss, hits, second measure. */
const SUMS = 3

/** A sum of tensors, and what rounding it lost; null where nobody asked for that. */
interface Sum {
  total: tf.Tensor
  lost: tf.Tensor | null
}

interface Learner {
  /** What is trained, in layout order: set by the trainer. */
  readonly weights: readonly tf.Variable[]
  /**
   * New tensors, which share no numbers: the gradient in layout order, and the sums [3] of loss, hits and second
   * measure.
   */
  gradient(minibatch: Minibatch): { gradient: tf.Tensor[]; sums: tf.Tensor }
  /** New tensors: the sums, and of a classifier [2, count]: the examples' classes as taken, and their losses. */
  evaluate(minibatch: Minibatch): { sums: tf.Tensor; outcomes: tf.Tensor | null }
  dispose(): void
}

/** A trainer of what was loaded on a started backend. */
export function trainerOf(
  backend: Backend,
  { layout, inputShape }: { layout: Layout; inputShape: readonly number[] },
  learner: Learner,
): Trainer {
  const { weights } = learner
  const size = layout.size
  const features = elementsOf(inputShape)

  /** The weighted sum of this lease's gradients, tensor by tensor; null before its first step. */
  let accrued: Sum[] | null = null
  /** The newest step's move of the replica, made only when somebody looks at the replica again. */
  let move: { gradient: tf.Tensor[]; rate: number } | null = null
  /** [3]: the sums so far; null before the first minibatch. */
  let sums: Sum | null = null
  /** Whether what rounding loses of these sums is summed too. */
  let compensated = false
  /** One for each evaluation of a classifier. */
  let outcomes: tf.Tensor[] = []
  /** What `finish` hands out where the device's memory can be read in place: one array, used again. */
  let transfer: Float32Array | null = null
  let disposed = false

  const addScaled = (y: tf.Tensor, x: tf.Tensor, scale: number): tf.Tensor =>
    backend.addScaled ? backend.addScaled(y, x, scale) : tf.tidy(() => tf.add(y, scale === 1 ? x : tf.mul(x, scale)))
  /** Of a tensor that is nobody else's. */
  const sumFrom = (total: tf.Tensor): Sum => ({ total, lost: compensated ? tf.zeros(total.shape) : null })
  function addTo(sum: Sum, x: tf.Tensor, scale: number): void {
    const { total, lost } = sum
    if (lost === null) {
      if (backend.addTo) return backend.addTo(total, x, scale)
      sum.total = addScaled(total, x, scale)
      return total.dispose()
    }
    if (backend.carry) return backend.carry(total, lost, x, scale)
    ;[sum.total, sum.lost] = tf.tidy(() => carried(total, lost, scale === 1 ? x : tf.mul(x, scale)))
    tf.dispose([total, lost])
  }
  function add(more: tf.Tensor): void {
    if (sums === null) {
      sums = sumFrom(more)
      return
    }
    addTo(sums, more, 1)
    more.dispose()
  }
  /** Takes the gradient's place where `own`, else leaves it as it is. */
  function accrue(gradient: tf.Tensor[], weight: number, own: boolean): void {
    if (accrued) for (const [i, sum] of accrued.entries()) addTo(sum, gradient[i], weight)
    else if (own && weight === 1) {
      accrued = gradient.map(sumFrom)
      return
    } else {
      // A clone would share its numbers, which are added to in place.
      accrued = gradient.map((tensor) => sumFrom(tf.mul(tensor, weight)))
    }
    if (own) tf.dispose(gradient)
  }
  function dropMove(): void {
    if (move) tf.dispose(move.gradient)
    move = null
  }
  function makeMove(): void {
    if (!move) return
    const { gradient, rate } = move
    weights.forEach((weight, i) => {
      const moved = addScaled(weight, gradient[i], -rate)
      weight.assign(moved)
      moved.dispose()
    })
    dropMove()
  }
  function clear(): void {
    dropMove()
    tf.dispose([...tensorsIn(accrued ?? []), ...tensorsIn(sums ? [sums] : []), ...outcomes])
    accrued = null
    sums = null
    outcomes = []
  }
  function check(): void {
    const lost = backend.lost()
    if (lost !== null) throw new Error(`${backend.name}: ${lost}`)
  }
  function begun({ inputs, labels, keys, count }: Minibatch): void {
    check()
    select(backend)
    makeMove()
    const fits = inputs.length === count * features && labels.length === count && keys.length === 2 * count
    if (fits && count > 0) return
    throw new Error(
      `invariant: a minibatch of ${count} examples has ${count * features} inputs, ${count} labels and ${2 * count} key words, ` +
        `not ${inputs.length}, ${labels.length} and ${keys.length}`,
    )
  }

  return {
    begin(parameters, how) {
      if (parameters.length !== size) {
        throw new Error(`invariant: the model has ${size} parameters, not ${parameters.length}`)
      }
      check()
      select(backend)
      clear()
      compensated = how?.compensated ?? false
      layout.slots.forEach((slot, i) => {
        const values = tensorOf(backend, parameters.subarray(slot.offset, slot.offset + slot.size), slot.shape)
        weights[i].assign(values)
        values.dispose()
      })
    },

    step(minibatch, { localRate, weight }) {
      begun(minibatch)
      const { gradient, sums: more } = learner.gradient(minibatch)
      add(more)
      accrue(gradient, weight, localRate === 0)
      if (localRate !== 0) move = { gradient, rate: localRate }
    },

    evaluate(minibatch) {
      begun(minibatch)
      const { sums: more, outcomes: each } = learner.evaluate(minibatch)
      add(more)
      if (each) outcomes.push(each)
    },

    async settled() {
      // Two numbers read back are the one way to wait that every backend has.
      if (sums) await sums.total.data()
      check()
    },

    async finish() {
      check()
      select(backend)
      if (sums === null) return { gradient: null, lossSum: 0, correct: 0, measureSum: 0, outcomes: null }
      const tensors = [...tensorsIn(accrued ?? []), ...tensorsIn([sums]), ...outcomes]
      const read = await readAll(backend, tensors, (total) => {
        if (transfer?.length !== total) transfer = new Float32Array(total)
        return transfer
      })
      check()
      const vectors = compensated ? 2 : 1
      const from = accrued ? vectors * size : 0
      const to = from + vectors * SUMS
      const [lossSum, correct, measureSum] = Array.from(read.subarray(from, from + SUMS), (total, i) =>
        compensated ? total + read[from + SUMS + i] : total,
      )
      return {
        gradient: accrued ? read.subarray(0, from) : null,
        // No loss is below zero, but what rounding leaves of one may be.
        lossSum: Math.max(0, lossSum),
        correct,
        measureSum,
        outcomes: outcomes.length > 0 ? packOutcomes(read.subarray(to), outcomes) : null,
      }
    },

    async replica() {
      check()
      select(backend)
      makeMove()
      const read = await readAll(backend, [...weights], (total) => new Float32Array(total))
      check()
      return read
    },

    dispose() {
      if (disposed) return
      disposed = true
      select(backend)
      clear()
      learner.dispose()
    },
  }
}

/** First what they come to, then what they lost. */
function tensorsIn(sums: readonly Sum[]): tf.Tensor[] {
  return [...sums.map(({ total }) => total), ...sums.flatMap(({ lost }) => lost ?? [])]
}

/** y + x rounded, and e + what that rounding lost (Knuth's TwoSum, TAOCP 2, §4.2.2). */
function carried(y: tf.Tensor, e: tf.Tensor, x: tf.Tensor): [tf.Tensor, tf.Tensor] {
  const sum = tf.add(y, x)
  const taken = tf.sub(sum, y)
  return [sum, tf.add(e, tf.add(tf.sub(y, tf.sub(sum, taken)), tf.sub(x, taken)))]
}

/** A new tensor of numbers that the caller may use again at once. */
export function tensorOf(backend: Backend, values: Float32Array, shape: readonly number[]): tf.Tensor {
  // tfjs keeps an array that it is given, some backends for ever, some until they first upload it.
  return tf.tensor(backend.copiesAtOnce ? values : values.slice(), [...shape])
}

/** [count], int32. */
export const labelsOf = ({ labels }: Minibatch): tf.Tensor1D => tf.tensor1d(Int32Array.from(labels), 'int32')

/** Makes a started backend tfjs' current one: there may be several, and tfjs has one engine for all. */
function select(backend: Backend): void {
  // For a backend that has started, setBackend does its work before it returns its promise.
  if (tf.getBackend() !== backend.name) void tf.setBackend(backend.name)
}

/** As a trainer does by itself, for what loads a model. */
export async function use(backend: Backend): Promise<void> {
  if (tf.getBackend() !== backend.name) await tf.setBackend(backend.name)
}

/** What was read back of the tests, packed. */
function packOutcomes(read: Float32Array, outcomes: readonly tf.Tensor[]): Uint8Array {
  const packed = Outcomes.of(read.length / 2)
  let from = 0
  let example = 0
  for (const { size } of outcomes) {
    const count = size / 2
    for (let i = 0; i < count; i++, example++) packed.set(example, read[from + i], read[from + count + i])
    from += size
  }
  return packed.bytes
}

/** Several tensors' numbers in one transfer. */
async function readAll(
  backend: Backend,
  tensors: tf.Tensor[],
  room: (total: number) => Float32Array,
): Promise<Float32Array> {
  if (backend.readInto) {
    const target = room(tensors.reduce((total, tensor) => total + tensor.size, 0))
    backend.readInto(tensors, target)
    return target
  }
  const flat = tf.tidy(() => tf.concat(tensors.map((tensor) => tf.reshape(tensor, [-1]))))
  try {
    return (await flat.data()) as Float32Array
  } finally {
    flat.dispose()
  }
}
