/**
 * A network's answer to one example, in plain double-precision arithmetic: for the handful of examples of a picture,
 * where the coordinator needs no tensor library. Knows dense networks: Flatten, Dropout, Dense and Activation layers.
 */
import type { Part } from '../../shared/stack.ts'

/** The output of the last layer. Throws where a layer is of another kind. */
export function forward({ topology, layout, parameters }: Part, input: ArrayLike<number>): Float64Array {
  let values = Float64Array.from(input)
  const tensor = (name: string) => {
    const slot = layout.slots.find((candidate) => candidate.name === name)
    if (slot === undefined) throw new Error(`invariant: the layout has no ${name}`)
    return parameters.subarray(slot.offset, slot.offset + slot.size)
  }
  for (const { class_name, config } of topology.config.layers) {
    switch (class_name) {
      // Examples come flat, and nothing is dropped but in training.
      case 'Flatten':
      case 'Dropout':
        break
      case 'Dense':
        values = affine(values, tensor(`${config.name}/kernel`), tensor(`${config.name}/bias`))
        activate(values, config.activation as string)
        break
      case 'Activation':
        activate(values, config.activation as string)
        break
      default:
        throw new Error(`invariant: no forward pass for layer ${class_name}`)
    }
  }
  return values
}

/** xW + b; W is [inputs, units]. */
function affine(values: Float64Array, kernel: Float32Array, bias: Float32Array): Float64Array<ArrayBuffer> {
  const units = bias.length
  const sums = Float64Array.from(bias)
  for (let i = 0; i < values.length; i++) {
    const value = values[i]
    if (value === 0) continue
    for (let unit = 0; unit < units; unit++) sums[unit] += value * kernel[i * units + unit]
  }
  return sums
}

const ELEMENTWISE: Record<string, (x: number) => number> = {
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  tanh: Math.tanh,
  relu: (x) => Math.max(0, x),
  elu: (x) => (x > 0 ? x : Math.expm1(x)),
}

function activate(values: Float64Array, name: string): void {
  if (name === 'linear') return
  if (name === 'softmax') return softmax(values)
  const f = ELEMENTWISE[name]
  if (f === undefined) throw new Error(`invariant: no activation ${name}`)
  for (let i = 0; i < values.length; i++) values[i] = f(values[i])
}

function softmax(values: Float64Array): void {
  const largest = values.reduce((a, b) => Math.max(a, b))
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += values[i] = Math.exp(values[i] - largest)
  for (let i = 0; i < values.length; i++) values[i] /= sum
}
