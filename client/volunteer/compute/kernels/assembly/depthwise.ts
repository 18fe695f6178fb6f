/**
 * The gradients of a depthwise convolution on NHWC tensors, in the geometry that conv2d's `geometry` has set
 * (outChannels = inChannels × multiplier; filter [kernelHeight, kernelWidth, inChannels, multiplier]).
 */
import {
  batch,
  dilationX,
  dilationY,
  inChannels,
  inHeight,
  inWidth,
  kernelHeight,
  kernelWidth,
  outChannels,
  outHeight,
  outWidth,
  padLeft,
  padTop,
  strideX,
  strideY,
} from './conv2d'

/** The gradient with respect to the filter; it is overwritten. */
export function depthwiseFilterGradient(x: usize, dy: usize, filter: usize): void {
  memory.fill(filter, 0, (<usize>(kernelHeight * kernelWidth * outChannels)) << 2)
  visit(x, dy, filter, true)
}

/** The gradient with respect to the input; dx is overwritten. */
export function depthwiseInputGradient(dy: usize, filter: usize, dx: usize): void {
  memory.fill(dx, 0, (<usize>batch * <usize>inHeight * <usize>inWidth * <usize>inChannels) << 2)
  visit(dx, dy, filter, false)
}

/** For every input pixel under every output pixel: filter += x·dy, or x += filter·dy. */
function visit(x: usize, dy: usize, filter: usize, toFilter: bool): void {
  const multiplier = outChannels / inChannels
  for (let image = 0; image < batch; image++) {
    for (let oy = 0; oy < outHeight; oy++) {
      for (let ox = 0; ox < outWidth; ox++) {
        for (let ky = 0; ky < kernelHeight; ky++) {
          const iy = oy * strideY - padTop + ky * dilationY
          if (iy < 0 || iy >= inHeight) continue
          for (let kx = 0; kx < kernelWidth; kx++) {
            const ix = ox * strideX - padLeft + kx * dilationX
            if (ix < 0 || ix >= inWidth) continue
            const pixel = x + ((<usize>((image * inHeight + iy) * inWidth + ix) * <usize>inChannels) << 2)
            const weights = filter + ((<usize>((ky * kernelWidth + kx) * outChannels)) << 2)
            if (multiplier > 1) several(pixel, dy, weights, multiplier, toFilter)
            else if (toFilter) multiplyAdd(weights, pixel, dy, inChannels)
            else multiplyAdd(pixel, weights, dy, inChannels)
          }
        }
        dy += (<usize>outChannels) << 2
      }
    }
  }
}

/** One pixel where each channel has several outputs. */
function several(pixel: usize, dy: usize, weights: usize, multiplier: i32, toFilter: bool): void {
  for (let c = 0; c < inChannels; c++) {
    for (let q = 0; q < multiplier; q++) {
      if (toFilter) store<f32>(weights, load<f32>(weights) + load<f32>(pixel) * load<f32>(dy))
      else store<f32>(pixel, load<f32>(pixel) + load<f32>(weights) * load<f32>(dy))
      weights += 4
      dy += 4
    }
    pixel += 4
  }
}

/** to += a·b, element by element. */
function multiplyAdd(to: usize, a: usize, b: usize, floats: i32): void {
  const end = to + ((<usize>floats) << 2)
  for (; to + 16 <= end; to += 16) {
    v128.store(to, f32x4.add(v128.load(to), f32x4.mul(v128.load(a), v128.load(b))))
    a += 16
    b += 16
  }
  for (; to < end; to += 4) {
    store<f32>(to, load<f32>(to) + load<f32>(a) * load<f32>(b))
    a += 4
    b += 4
  }
}
