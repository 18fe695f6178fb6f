/** Versions: what somebody holds is kept as it was, and encoded once. */
import { describe, expect, it } from 'vitest'
import { Parameters } from '../../coordinator/parameters/parameters.ts'
import { updateRule } from '../../coordinator/parameters/update-rule.ts'
import { Versions } from '../../coordinator/parameters/versions.ts'
import { codecs, decodeVector, encodeVector } from '../../shared/codec.ts'
import { layout } from '../../shared/layout.ts'

const SIZE = 1000

function store() {
  const of = layout([{ name: 'weights', shape: [SIZE], init: { kind: 'zeros' } }])
  const parameters = new Parameters(of, updateRule({ name: 'sgd', rate: 1, weightCost: 0 }), new Float32Array(SIZE))
  const versions = new Versions(parameters, 'f32')
  parameters.beforeChange = () => versions.beforeStep()
  const gradient = encodeVector(codecs.f32, new Float32Array(SIZE).fill(-1))
  const step = () => parameters.apply('f32', [{ payload: gradient, weight: 1 }], { rate: 1, epoch: 0 })
  const values = (version: number) => decodeVector(codecs.f32, versions.bytes(version)!, SIZE)
  return { versions, step, values }
}

describe('versions', () => {
  it('[V1] [V2] are encoded once, and stay what they were while they are held', () => {
    const { versions, step, values } = store()
    versions.hold(0)
    step()
    versions.hold(1)
    const newest = versions.bytes(1)
    step()
    expect(versions.bytes(1)).toBe(newest)
    expect(versions.bytes(0)).toBe(versions.bytes(0))
    expect([values(0)[0], values(1)[SIZE - 1]]).toEqual([0, 1])
    for (let i = 0; i < 50; i++) {
      versions.hold(i + 2)
      step()
    }
    expect(versions.bytes(1)).toBe(newest)
    expect([0, 1, 25, 51].map((version) => values(version)[7])).toEqual([0, 1, 25, 51])
  })

  it('[V4] are gone once nobody holds them, but for the newest', () => {
    const { versions, step } = store()
    versions.hold(0)
    versions.hold(0)
    step()
    versions.release(0)
    expect(versions.bytes(0)).not.toBeNull()
    versions.release(0)
    expect(versions.bytes(0)).toBeNull()
    versions.hold(0)
    expect(versions.bytes(0)).toBeNull()
    expect(versions.bytes(1)).toBeNull()
    versions.hold(1)
    expect(versions.bytes(1)).not.toBeNull()
  })
})
