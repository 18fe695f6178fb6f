/** What a coordinator serves beside the operator API, with the right headers: health, metrics, blobs and pages. */
import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newFolder, removeFolders, SMALL, startCoordinator, type TestCoordinator } from '../support/coordinator.ts'
import { SyntheticVolunteer } from '../support/synthetic-volunteer.ts'

let coordinator: TestCoordinator
beforeAll(async () => {
  const pagesFolder = newFolder()
  for (const page of ['contribute', 'console', 'embed', 'demo']) {
    writeFileSync(join(pagesFolder, `${page}.html`), `<!doctype html><title>${page}</title>`)
  }
  writeFileSync(join(pagesFolder, 'embed.js'), 'void 0')
  mkdirSync(join(pagesFolder, 'assets'))
  writeFileSync(join(pagesFolder, 'assets', 'app-0a1b2c.js'), 'void 0')
  coordinator = await startCoordinator({ pagesFolder })
})
afterAll(async () => {
  await coordinator?.close()
  removeFolders()
})

describe('beside the API', () => {
  test('/healthz is well', async () => {
    const response = await fetch(`${coordinator.url}/healthz`)
    expect([response.status, await response.json()]).toEqual([200, { ok: true, storage: 'ok' }])
  })

  test('/metrics is Prometheus text and tells of the runs', async () => {
    const { run } = await coordinator.createRun(SMALL)
    const volunteer = await SyntheticVolunteer.join(coordinator.url, { run })
    await volunteer.work(2)
    await volunteer.ask('start', { lease: 'nobody' })
    const response = await fetch(`${coordinator.url}/metrics`)
    expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/)
    const body = await response.text()
    for (const line of body.trimEnd().split('\n')) {
      expect(line).toMatch(/^(# (HELP|TYPE) \w+ .+|\w+(\{(\w+="[^"]*",?)*\})? -?(\d[\d.e+-]*|NaN|\+?Inf)|)$/)
    }
    expect(body).toContain(`crowdgrad_run_examples_total{run="${run}"} 20\n`)
    expect(body).toContain(`crowdgrad_run_updates_accepted_total{run="${run}"} 2\n`)
    expect(body).toContain('# TYPE crowdgrad_run_examples_total counter\n')
    expect(body).toContain('# TYPE crowdgrad_run_epoch gauge\n')
    expect(body).toContain('crowdgrad_volunteers 1\n')
    expect(body).toContain('crowdgrad_refusals_total{code="lease-unknown"} 1\n')
    expect(body).toContain('crowdgrad_storage_ok 1\n')
    expect(body).toMatch(/nodejs_eventloop_lag_seconds \d/)
    volunteer.close()
  })

  test('/blobs serves shards and models by their hash, to be cached for ever, to anybody', async () => {
    const { run } = await coordinator.createRun(SMALL)
    const volunteer = await SyntheticVolunteer.join(coordinator.url, { run })
    const lease = await volunteer.lease()
    for (const hash of [lease.model, lease.segments[0].shard]) {
      const response = await fetch(`${coordinator.url}/blobs/${hash}`)
      expect(response.status).toBe(200)
      expect(response.headers.get('cache-control')).toBe('public, max-age=31536000, immutable')
      expect(response.headers.get('access-control-allow-origin')).toBe('*')
      expect(response.headers.get('content-type')).toBe('application/octet-stream')
      const bytes = Buffer.from(await response.arrayBuffer())
      expect(createHash('sha256').update(bytes).digest('hex')).toBe(hash)
      expect(bytes.equals(await volunteer.download({ hash }))).toBe(true)
    }
    volunteer.close()
  })

  const ancestors = (policy: string | null) => policy?.match(/frame-ancestors ([^;]*)/)?.[1]
  for (const [path, title, framedBy] of [
    ['/', 'contribute', "'self'"],
    ['/console', 'console', "'self'"],
    ['/demo', 'demo', "'self'"],
    ['/embed', 'embed', '*'],
  ]) {
    test(`${path} comes with a content security policy and may be framed by ${framedBy}`, async () => {
      const response = await fetch(coordinator.url + path)
      expect(response.status).toBe(200)
      expect(await response.text()).toContain(`<title>${title}</title>`)
      const policy = response.headers.get('content-security-policy')
      expect(ancestors(policy)).toBe(framedBy)
      expect(policy).toContain("default-src 'self'")
      expect(policy).toContain("script-src 'self' 'wasm-unsafe-eval';")
      expect(policy).toContain("object-src 'none'")
      expect(policy).not.toContain("'unsafe-eval'")
      expect(response.headers.get('x-content-type-options')).toBe('nosniff')
      expect(response.headers.get('referrer-policy')).toBe('no-referrer')
      expect(response.headers.get('cache-control')).toBe('no-cache')
      expect(response.headers.get('x-powered-by')).toBeNull()
      expect(response.headers.get('x-frame-options')).toBeNull()
    })
  }

  test('answers of the API may be framed by nobody else and are refused to other origins', async () => {
    const response = await coordinator.api('GET', '/api/runs')
    expect(ancestors(response.headers.get('content-security-policy'))).toBe("'self'")
    expect(response.headers.get('access-control-allow-origin')).toBeNull()
  })

  test('assets are cached for ever, the embed script for minutes, and both are for other sites too', async () => {
    const asset = await fetch(`${coordinator.url}/assets/app-0a1b2c.js`)
    expect(asset.headers.get('cache-control')).toBe('public, max-age=31536000, immutable')
    expect(asset.headers.get('cross-origin-resource-policy')).toBe('cross-origin')
    const script = await fetch(`${coordinator.url}/embed.js`)
    expect(script.headers.get('cache-control')).toBe('public, max-age=300')
    expect(script.headers.get('cross-origin-resource-policy')).toBe('cross-origin')
    expect(script.headers.get('content-type')).toMatch(/javascript/)
    expect((await fetch(`${coordinator.url}/assets/missing.js`)).status).toBe(404)
  })

  test('pages that are not built say so', async () => {
    const other = await startCoordinator({ pagesFolder: newFolder() })
    const response = await fetch(`${other.url}/`)
    expect([response.status, await response.text()]).toEqual([503, expect.stringContaining('npm run build')])
    await other.close()
  })
})
