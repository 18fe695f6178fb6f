import type { Engine } from './engine.ts'
export async function selfTest(_engine: Engine): Promise<void> {}
