/**
 * What a volunteer computes on, the quickest first. By themselves, for pages that need nothing else of the protocol.
 */
export const BACKENDS = ['webgpu', 'webgl', 'wasm', 'cpu'] as const
export type BackendName = (typeof BACKENDS)[number]
