/**
 * An independent oracle: what a sequential model of the templates answers for one example, by plain loops in float64
 * over parameters that are found by name. It shares no code with tfjs or with the layout's own arithmetic of shapes.
 */
import type { Layer } from '../../shared/topology.ts'

export type Tensors = ReadonlyMap<string, { shape: readonly number[]; values: ArrayLike<number> }>

interface Image {
  height: number
  width: number
  channels: number
  values: number[]
}

const activations: Record<string, (x: number) => number> = {
  linear: (x) => x,
  relu: (x) => Math.max(0, x),
  tanh: Math.tanh,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  elu: (x) => (x > 0 ? x : Math.exp(x) - 1),
}

/** The probabilities; `input` is channels-last. */
export function forward(
  layers: readonly Layer[],
  tensors: Tensors,
  inputShape: readonly number[],
  input: number[],
): number[] {
  const [height, width, channels] = inputShape
  let image: Image = { height, width, channels, values: input }
  for (const { class_name, config } of layers) {
    const kernel = tensors.get(`${config.name}/kernel`)
    const bias = tensors.get(`${config.name}/bias`)
    if (class_name === 'Flatten') image = { height: 1, width: 1, channels: image.values.length, values: image.values }
    else if (class_name === 'MaxPooling2D') image = maxPool(image)
    else if (class_name === 'Activation') image = { ...image, values: softmax(image.values) }
    else if (class_name === 'Dense' || class_name === 'Conv2D') {
      if (kernel === undefined || bias === undefined) throw new Error(`no parameters for layer ${config.name}`)
      const [rows, columns] = class_name === 'Dense' ? [1, 1] : kernel.shape
      const filters = kernel.shape[kernel.shape.length - 1]
      const convolved = convolve(image, kernel.values, rows, columns, filters, config.padding === 'same')
      const activate = activations[config.activation as string]
      const values = convolved.values.map((sum, i) => activate(sum + bias.values[i % filters]))
      image = { ...convolved, values }
    } else throw new Error(`the oracle does not know layer ${class_name}`)
  }
  return image.values
}

function convolve(
  image: Image,
  kernel: ArrayLike<number>,
  rows: number,
  columns: number,
  filters: number,
  same: boolean,
): Image {
  const top = same ? (rows - 1) / 2 : 0
  const left = same ? (columns - 1) / 2 : 0
  const height = same ? image.height : image.height - rows + 1
  const width = same ? image.width : image.width - columns + 1
  const values: number[] = []
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let filter = 0; filter < filters; filter++) {
        let sum = 0
        for (let row = 0; row < rows; row++) {
          for (let column = 0; column < columns; column++) {
            const fromY = y + row - top
            const fromX = x + column - left
            if (fromY < 0 || fromX < 0 || fromY >= image.height || fromX >= image.width) continue
            for (let channel = 0; channel < image.channels; channel++) {
              const pixel = image.values[(fromY * image.width + fromX) * image.channels + channel]
              sum += pixel * kernel[((row * columns + column) * image.channels + channel) * filters + filter]
            }
          }
        }
        values.push(sum)
      }
    }
  }
  return { height, width, channels: filters, values }
}

function maxPool({ height, width, channels, values }: Image): Image {
  const pooled: Image = { height: Math.floor(height / 2), width: Math.floor(width / 2), channels, values: [] }
  for (let y = 0; y < pooled.height; y++) {
    for (let x = 0; x < pooled.width; x++) {
      for (let channel = 0; channel < channels; channel++) {
        const at = (dy: number, dx: number) => values[((2 * y + dy) * width + 2 * x + dx) * channels + channel]
        pooled.values.push(Math.max(at(0, 0), at(0, 1), at(1, 0), at(1, 1)))
      }
    }
  }
  return pooled
}

function softmax(logits: number[]): number[] {
  const largest = Math.max(...logits)
  const exponentials = logits.map((logit) => Math.exp(logit - largest))
  const sum = exponentials.reduce((total, each) => total + each, 0)
  return exponentials.map((each) => each / sum)
}
