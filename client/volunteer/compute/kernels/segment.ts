/** The sum over segments, the gradient of a gather (an embedding), which tfjs' WASM backend lacks. */
import { type KernelConfig, type KernelFunc, type TensorInfo, util } from '@tensorflow/tfjs-core'
import { heapOf } from './heap.ts'

const unsortedSegmentSum: KernelConfig = {
  kernelName: 'UnsortedSegmentSum',
  backendName: 'wasm',
  kernelFunc: (({ inputs, backend, attrs }) => {
    const heap = heapOf(backend)
    const { x, segmentIds } = inputs as { x: TensorInfo; segmentIds: TensorInfo }
    if (x.dtype !== 'float32') throw new Error('unsortedSegmentSum on WASM takes float32 only')
    const { numSegments } = attrs as unknown as { numSegments: number }
    const rest = x.shape.slice(segmentIds.shape.length)
    const row = util.sizeFromShape(rest)
    const out = heap.output([numSegments, ...rest])
    const [from, to, segments] = [heap.floats(x), heap.floats(out), heap.integers(segmentIds)]
    to.fill(0)
    segments.forEach((segment, i) => {
      // As tfjs has it: what belongs to no segment is dropped.
      if (segment < 0 || segment >= numSegments) return
      for (let j = 0; j < row; j++) to[segment * row + j] += from[i * row + j]
    })
    return out
  }) as KernelFunc,
}

export const segmentKernels = [unsortedSegmentSum]
