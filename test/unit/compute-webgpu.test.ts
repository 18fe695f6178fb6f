/**
 * WebGPU in Node, on Dawn with the software adapter that comes with Chromium; skipped where that is not installed. In a
 * child process, because the adapter's library is found through the environment a process starts with.
 */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { cases } from '../support/oracle-cases.ts'
import type { Difference } from '../support/oracle-lease.ts'

const ICD = '/usr/lib/chromium/vk_swiftshader_icd.json'

it.skipIf(!existsSync(ICD))(
  "WebGPU on SwiftShader has the oracle's gradients, is recognised as software, and is taken only when named",
  async () => {
    const script = fileURLToPath(new URL('../support/oracle-webgpu.ts', import.meta.url))
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', script], {
      env: { ...process.env, VK_ICD_FILENAMES: ICD, LD_LIBRARY_PATH: dirname(ICD) },
      timeout: 230_000,
    })
    const result = JSON.parse(stdout.trim().split('\n').at(-1)!)
    expect(result.chosen).toBe('wasm')
    expect(result.declined[0]).toMatch(/^webgpu: .*SwiftShader.* software device/)
    expect(result.device).toMatch(/^WebGPU \(.*SwiftShader/)
    expect(Object.keys(result.differences)).toEqual(cases.filter(({ rare }) => !rare).map(({ name }) => name))
    for (const { correct, ...differences } of Object.values<Difference>(result.differences)) {
      for (const difference of Object.values(differences)) expect(difference).toBeLessThan(1e-5)
      expect(correct).toBe(0)
    }
    expect(result.leaked).toBe(0)
  },
  240_000,
)
