/**
 * WebGPU for Node: Dawn's binding from the npm package `webgpu`. Its own file, imported by nothing that a browser
 * loads, because the package is native code:
 *
 *     const engine = await openEngine('webgpu', { gpu: await dawn() })
 *
 * On a machine without a graphics device, VK_ICD_FILENAMES=/usr/lib/chromium/vk_swiftshader_icd.json lets it find
 * SwiftShader (set it before the process starts).
 */

/**
 * Loads Dawn and returns its GPU object; sets the WebGPU globals (GPUBufferUsage, …) that tfjs asks for.
 * @param flags Dawn's options, such as `backend=vulkan`.
 * @throws Error where the package has no binary for this platform.
 */
export async function dawn(flags: string[] = []): Promise<GPU> {
  const { create, globals } = await import('webgpu')
  Object.assign(globalThis, globals)
  return create(flags)
}
