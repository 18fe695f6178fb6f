/** The gradients of pooling on NHWC tensors. Addresses are bytes, all other numbers count floats. */

/**
 * dx [batch, inHeight, inWidth, channels] gets each output's dy at the first place of its window that holds the
 * window's highest x; dx is overwritten.
 */
export function maxPoolGradient(
  dx: usize,
  dy: usize,
  x: usize,
  batch: i32,
  inHeight: i32,
  inWidth: i32,
  channels: i32,
  outHeight: i32,
  outWidth: i32,
  windowHeight: i32,
  windowWidth: i32,
  strideY: i32,
  strideX: i32,
  dilationY: i32,
  dilationX: i32,
  padTop: i32,
  padLeft: i32,
): void {
  memory.fill(dx, 0, (<usize>batch * <usize>inHeight * <usize>inWidth * <usize>channels) << 2)
  const pixel = (<usize>channels) << 2
  for (let image = 0; image < batch; image++) {
    for (let oy = 0; oy < outHeight; oy++) {
      const top = oy * strideY - padTop
      for (let ox = 0; ox < outWidth; ox++) {
        const left = ox * strideX - padLeft
        let c = 0
        for (; c < channels; c += 4) {
          // The last vector of channels is a short one: what it lacks is read and added lane by lane.
          const lanes = channels - c
          const at = (<usize>c) << 2
          let highest = f32x4.splat(-Infinity)
          for (let wy = 0; wy < windowHeight; wy++) {
            const iy = top + wy * dilationY
            if (iy < 0 || iy >= inHeight) continue
            for (let wx = 0; wx < windowWidth; wx++) {
              const ix = left + wx * dilationX
              if (ix < 0 || ix >= inWidth) continue
              const from = <usize>((image * inHeight + iy) * inWidth + ix) * pixel + at
              highest = f32x4.max(highest, some(x + from, lanes))
            }
          }
          let open = some(dy, lanes)
          for (let wy = 0; wy < windowHeight; wy++) {
            const iy = top + wy * dilationY
            if (iy < 0 || iy >= inHeight) continue
            for (let wx = 0; wx < windowWidth; wx++) {
              const ix = left + wx * dilationX
              if (ix < 0 || ix >= inWidth) continue
              const from = <usize>((image * inHeight + iy) * inWidth + ix) * pixel + at
              const here = f32x4.eq(highest, some(x + from, lanes))
              addSome(dx + from, v128.and(open, here), lanes)
              open = v128.andnot(open, here)
            }
          }
          dy += min(16, (<usize>lanes) << 2)
        }
      }
    }
  }
}

/** dx gets each output's dy in equal shares at the places of its window that are inside; dx is overwritten. */
export function averagePoolGradient(
  dx: usize,
  dy: usize,
  batch: i32,
  inHeight: i32,
  inWidth: i32,
  channels: i32,
  outHeight: i32,
  outWidth: i32,
  windowHeight: i32,
  windowWidth: i32,
  strideY: i32,
  strideX: i32,
  padTop: i32,
  padLeft: i32,
): void {
  memory.fill(dx, 0, (<usize>batch * <usize>inHeight * <usize>inWidth * <usize>channels) << 2)
  const pixel = (<usize>channels) << 2
  for (let image = 0; image < batch; image++) {
    for (let oy = 0; oy < outHeight; oy++) {
      const top = max(0, oy * strideY - padTop)
      const bottom = min(inHeight, oy * strideY - padTop + windowHeight)
      for (let ox = 0; ox < outWidth; ox++) {
        const left = max(0, ox * strideX - padLeft)
        const right = min(inWidth, ox * strideX - padLeft + windowWidth)
        const share = f32x4.splat(1 / <f32>((bottom - top) * (right - left)))
        for (let c = 0; c < channels; c += 4) {
          const lanes = channels - c
          const each = f32x4.mul(some(dy, lanes), share)
          for (let iy = top; iy < bottom; iy++) {
            let to = dx + <usize>((image * inHeight + iy) * inWidth + left) * pixel + ((<usize>c) << 2)
            for (let ix = left; ix < right; ix++) {
              addSome(to, each, lanes)
              to += pixel
            }
          }
          dy += min(16, (<usize>lanes) << 2)
        }
      }
    }
  }
}

/** Up to four floats; missing ones are zero. */
function some(from: usize, lanes: i32): v128 {
  if (lanes >= 4) return v128.load(from)
  let value = v128.load32_zero(from)
  if (lanes > 1) value = f32x4.replace_lane(value, 1, load<f32>(from, 4))
  if (lanes > 2) value = f32x4.replace_lane(value, 2, load<f32>(from, 8))
  return value
}

function addSome(to: usize, value: v128, lanes: i32): void {
  if (lanes >= 4) {
    v128.store(to, f32x4.add(v128.load(to), value))
    return
  }
  store<f32>(to, load<f32>(to) + f32x4.extract_lane(value, 0))
  if (lanes > 1) store<f32>(to, load<f32>(to, 4) + f32x4.extract_lane(value, 1), 4)
  if (lanes > 2) store<f32>(to, load<f32>(to, 8) + f32x4.extract_lane(value, 2), 8)
}
