/**
 * The HTTP side: pages, blobs, health, metrics and the operator API, on one fastify. Its limits and headers are here;
 * what the routes do is in the files they come from.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import helmet from '@fastify/helmet'
import rateLimit from '@fastify/rate-limit'
import fastifyStatic from '@fastify/static'
import { type FastifyInstance, fastify } from 'fastify'
import type { Logger } from 'pino'
import type { Registry } from 'prom-client'
import { StorageError } from '../journal/journal.ts'
import type { Runs } from '../run/runs.ts'
import { apiError, type OperatorsOptions, serveOperators } from './operators.ts'

/** Requests to the operator API a minute and address: a console needs a few, a guesser of tokens many. */
const API_REQUESTS_A_MINUTE = 600
/** The pages, by address. `framed`: may stand in a frame on anybody's site. */
const PAGES = [
  { path: '/', file: 'contribute.html', framed: false },
  { path: '/console', file: 'console.html', framed: false },
  { path: '/embed', file: 'embed.html', framed: true },
  { path: '/demo', file: 'demo.html', framed: false },
] as const

interface HttpOptions extends OperatorsOptions {
  readonly runs: Runs
  /** Where the built pages lie. */
  readonly pagesFolder: string
  readonly registry: () => Registry
  readonly log: Logger
}

export async function openHttp(options: HttpOptions): Promise<FastifyInstance> {
  const { runs, pagesFolder, registry, log } = options
  const app = fastify({ forceCloseConnections: true })
  app.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => {
    if (error instanceof StorageError) {
      return apiError(reply, error.fault === 'full' ? 'storage-full' : 'storage-failed', error.message)
    }
    const status = error.statusCode ?? 500
    if (status === 415) return apiError(reply, 'bad-request', 'expected the header "content-type: application/json"')
    if (status === 429) return apiError(reply, 'rate-limited', error.message)
    if (status < 500) return apiError(reply, 'bad-request', error.message)
    log.error({ err: error }, 'invariant broken while answering a request')
    return apiError(reply, 'internal', 'the coordinator made a mistake; it is in its log')
  })
  app.setNotFoundHandler((request, reply) =>
    apiError(reply, 'not-found', `there is nothing at ${request.method} ${request.url.split('?')[0]}`),
  )
  await app.register(helmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        'default-src': ["'self'"],
        // tfjs instantiates WebAssembly.
        'script-src': ["'self'", "'wasm-unsafe-eval'"],
        'worker-src': ["'self'", 'blob:'],
        'style-src': ["'self'"],
        'img-src': ["'self'", 'data:', 'blob:'],
        'connect-src': ["'self'", 'ws:', 'wss:', 'https:'],
        'frame-src': ["'self'"],
        'frame-ancestors': ["'self'"],
        'base-uri': ["'none'"],
        'form-action': ["'self'"],
        'object-src': ["'none'"],
      },
    },
    // The widget's script and frame are for other origins.
    crossOriginResourcePolicy: { policy: 'cross-origin' },
    crossOriginOpenerPolicy: false,
    originAgentCluster: false,
    strictTransportSecurity: false,
    xFrameOptions: false,
  })
  await app.register(rateLimit, { global: false })

  app.get('/healthz', (_request, reply) => {
    const fault = runs.storageFault
    return reply.code(fault === null ? 200 : 503).send({ ok: fault === null, storage: fault ?? 'ok' })
  })
  app.get('/metrics', async (_request, reply) => reply.type(registry().contentType).send(await registry().metrics()))
  app.get('/blobs/:hash', (request, reply) => {
    const { hash } = request.params as { hash: string }
    const bytes = runs.blob(hash)
    if (bytes === null) return apiError(reply, 'not-found', `there is no blob ${hash}`)
    return reply
      .header('cache-control', 'public, max-age=31536000, immutable')
      .header('access-control-allow-origin', '*')
      .type('application/octet-stream')
      .send(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength))
  })
  await app.register(
    async (api) => {
      await api.register(rateLimit, { max: API_REQUESTS_A_MINUTE, timeWindow: '1 minute' })
      serveOperators(api, options)
    },
    { prefix: '/api' },
  )
  await servePages(app, pagesFolder)
  return app
}

async function servePages(app: FastifyInstance, folder: string): Promise<void> {
  const built = existsSync(join(folder, PAGES[0].file))
  if (built) await app.register(fastifyStatic, { root: folder, serve: false })
  for (const { path, file, framed } of PAGES) {
    app.get(path, (_request, reply) => {
      if (!built) return reply.code(503).type('text/plain').send('The pages are not built: run "npm run build".')
      if (framed) {
        const policy = String(reply.getHeader('content-security-policy')).replace(
          /frame-ancestors [^;]*/,
          'frame-ancestors *',
        )
        reply.header('content-security-policy', policy)
      }
      return reply.header('cache-control', 'no-cache').sendFile(file, { cacheControl: false })
    })
  }
  if (!built) return
  app.get('/embed.js', (_request, reply) =>
    reply.header('cache-control', 'public, max-age=300').sendFile('embed.js', { cacheControl: false }),
  )
  app.get('/assets/*', (request, reply) => {
    const { '*': name } = request.params as { '*': string }
    // Assets carry a hash of their content in their names, but for tfjs' binaries, whose loader knows their names.
    const lasting = name.startsWith('tfjs/') ? 'public, max-age=3600' : 'public, max-age=31536000, immutable'
    return reply
      .header('cache-control', lasting)
      .header('access-control-allow-origin', '*')
      .sendFile(`assets/${name}`, { cacheControl: false })
  })
}
