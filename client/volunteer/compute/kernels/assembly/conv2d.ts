/**
 * Two-dimensional convolution and its two gradients on NHWC tensors, as matrix products over unfolded patches
 * (im2col): output pixels × (kernel height × kernel width × input channels). A block of pixels is unfolded at a time,
 * so scratch memory does not grow with the batch.
 *
 * `geometry` sets the shape that the other functions then work on. Addresses are bytes, all other numbers count floats.
 */
import { matmul, scratchBytes } from './matmul'

/** Output pixels unfolded at a time: as many rows as the product packs at a time. */
const PIXELS: i32 = 256

export let batch: i32
export let inHeight: i32
export let inWidth: i32
export let inChannels: i32
export let outHeight: i32
export let outWidth: i32
export let outChannels: i32
export let kernelHeight: i32
export let kernelWidth: i32
export let strideY: i32
export let strideX: i32
export let dilationY: i32
export let dilationX: i32
export let padTop: i32
export let padLeft: i32

export function geometry(
  batch_: i32,
  inHeight_: i32,
  inWidth_: i32,
  inChannels_: i32,
  outHeight_: i32,
  outWidth_: i32,
  outChannels_: i32,
  kernelHeight_: i32,
  kernelWidth_: i32,
  strideY_: i32,
  strideX_: i32,
  dilationY_: i32,
  dilationX_: i32,
  padTop_: i32,
  padLeft_: i32,
): void {
  batch = batch_
  inHeight = inHeight_
  inWidth = inWidth_
  inChannels = inChannels_
  outHeight = outHeight_
  outWidth = outWidth_
  outChannels = outChannels_
  kernelHeight = kernelHeight_
  kernelWidth = kernelWidth_
  strideY = strideY_
  strideX = strideX_
  dilationY = dilationY_
  dilationX = dilationX_
  padTop = padTop_
  padLeft = padLeft_
}

/** Bytes of scratch memory that the functions below need for the geometry set. */
export function conv2dScratchBytes(): i32 {
  return scratchBytes() + 4 * PIXELS * kernelHeight * kernelWidth * inChannels
}

/**
 * y = convolution of x with filter [kernelHeight, kernelWidth, inChannels, outChannels], plus `bias` unless it is 0.
 */
export function conv2d(x: usize, filter: usize, bias: usize, y: usize, scratch: usize): void {
  const pixels = batch * outHeight * outWidth
  const patch = kernelHeight * kernelWidth * inChannels
  const patches = scratch + scratchBytes()
  for (let from = 0; from < pixels; from += PIXELS) {
    const count = min(PIXELS, pixels - from)
    unfold(x, patches, from, count)
    const to = y + ((<usize>from * <usize>outChannels) << 2)
    matmul(
      patches,
      patch,
      false,
      filter,
      outChannels,
      false,
      to,
      outChannels,
      count,
      outChannels,
      patch,
      false,
      bias,
      scratch,
    )
  }
}

/** The gradient with respect to the filter: patchesᵀ·dy. */
export function conv2dFilterGradient(x: usize, dy: usize, filter: usize, scratch: usize): void {
  const pixels = batch * outHeight * outWidth
  const patch = kernelHeight * kernelWidth * inChannels
  const patches = scratch + scratchBytes()
  for (let from = 0; from < pixels; from += PIXELS) {
    const count = min(PIXELS, pixels - from)
    unfold(x, patches, from, count)
    const at = dy + ((<usize>from * <usize>outChannels) << 2)
    matmul(
      patches,
      patch,
      true,
      at,
      outChannels,
      false,
      filter,
      outChannels,
      patch,
      outChannels,
      count,
      from > 0,
      0,
      scratch,
    )
  }
}

/** The gradient with respect to the input: dy·filterᵀ, folded back; dx is overwritten. */
export function conv2dInputGradient(dy: usize, filter: usize, dx: usize, scratch: usize): void {
  const pixels = batch * outHeight * outWidth
  const patch = kernelHeight * kernelWidth * inChannels
  const patches = scratch + scratchBytes()
  memory.fill(dx, 0, (<usize>batch * <usize>inHeight * <usize>inWidth * <usize>inChannels) << 2)
  for (let from = 0; from < pixels; from += PIXELS) {
    const count = min(PIXELS, pixels - from)
    const at = dy + ((<usize>from * <usize>outChannels) << 2)
    matmul(
      at,
      outChannels,
      false,
      filter,
      outChannels,
      true,
      patches,
      patch,
      count,
      patch,
      outChannels,
      false,
      0,
      scratch,
    )
    fold(patches, dx, from, count)
  }
}

/** Copies `count` patches from output pixel `from` on into rows of `to`; what lies in the padding is zero. */
function unfold(x: usize, to: usize, from: i32, count: i32): void {
  const rowFloats = kernelWidth * inChannels
  let column = from % outWidth
  let row = (from / outWidth) % outHeight
  let image = from / (outWidth * outHeight)
  for (let pixel = 0; pixel < count; pixel++) {
    const left = column * strideX - padLeft
    for (let ky = 0; ky < kernelHeight; ky++) {
      const iy = row * strideY - padTop + ky * dilationY
      if (iy < 0 || iy >= inHeight) {
        zero(to, rowFloats)
        to += (<usize>rowFloats) << 2
        continue
      }
      const line = x + ((<usize>(image * inHeight + iy) * <usize>inWidth * <usize>inChannels) << 2)
      if (dilationX === 1 && left >= 0 && left + kernelWidth <= inWidth) {
        copy(to, line + ((<usize>(left * inChannels)) << 2), rowFloats)
        to += (<usize>rowFloats) << 2
        continue
      }
      for (let kx = 0; kx < kernelWidth; kx++) {
        const ix = left + kx * dilationX
        if (ix < 0 || ix >= inWidth) zero(to, inChannels)
        else copy(to, line + ((<usize>(ix * inChannels)) << 2), inChannels)
        to += (<usize>inChannels) << 2
      }
    }
    if (++column === outWidth) {
      column = 0
      if (++row === outHeight) {
        row = 0
        image++
      }
    }
  }
}

/** The reverse of `unfold`: adds `count` patches to the pixels they came from. */
function fold(patches: usize, x: usize, from: i32, count: i32): void {
  const rowFloats = kernelWidth * inChannels
  let column = from % outWidth
  let row = (from / outWidth) % outHeight
  let image = from / (outWidth * outHeight)
  for (let pixel = 0; pixel < count; pixel++) {
    const left = column * strideX - padLeft
    for (let ky = 0; ky < kernelHeight; ky++) {
      const iy = row * strideY - padTop + ky * dilationY
      if (iy >= 0 && iy < inHeight) {
        const line = x + ((<usize>(image * inHeight + iy) * <usize>inWidth * <usize>inChannels) << 2)
        if (dilationX === 1 && left >= 0 && left + kernelWidth <= inWidth) {
          addTo(line + ((<usize>(left * inChannels)) << 2), patches, rowFloats)
        } else {
          for (let kx = 0; kx < kernelWidth; kx++) {
            const ix = left + kx * dilationX
            if (ix < 0 || ix >= inWidth) continue
            addTo(line + ((<usize>(ix * inChannels)) << 2), patches + ((<usize>(kx * inChannels)) << 2), inChannels)
          }
        }
      }
      patches += (<usize>rowFloats) << 2
    }
    if (++column === outWidth) {
      column = 0
      if (++row === outHeight) {
        row = 0
        image++
      }
    }
  }
}

function zero(to: usize, floats: i32): void {
  const end = to + ((<usize>floats) << 2)
  for (; to + 16 <= end; to += 16) v128.store(to, f32x4.splat(0))
  for (; to < end; to += 4) store<f32>(to, 0)
}

function copy(to: usize, from: usize, floats: i32): void {
  const end = to + ((<usize>floats) << 2)
  for (; to + 16 <= end; to += 16) {
    v128.store(to, v128.load(from))
    from += 16
  }
  for (; to < end; to += 4) {
    store<f32>(to, load<f32>(from))
    from += 4
  }
}

function addTo(to: usize, from: usize, floats: i32): void {
  const end = to + ((<usize>floats) << 2)
  for (; to + 16 <= end; to += 16) {
    v128.store(to, f32x4.add(v128.load(to), v128.load(from)))
    from += 16
  }
  for (; to < end; to += 4) {
    store<f32>(to, load<f32>(to) + load<f32>(from))
    from += 4
  }
}
