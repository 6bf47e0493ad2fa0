import react from '@vitejs/plugin-react';
import { defineConfig } from 'vitest/config';

/** Where `npm run dev` finds a running program. */
const server = process.env['STREAMGAUGE_URL'] ?? 'http://127.0.0.1:8080';

export default defineConfig({
  plugins: [react()],
  server: {
    proxy: {
      '/api': { target: server, ws: true },
      '/v1': server,
      '/docs': server,
    },
  },
  build: {
    target: 'es2022',
    chunkSizeWarningLimit: 1_200,
  },
  test: {
    include: ['src/**/*.test.ts'],
  },
});
