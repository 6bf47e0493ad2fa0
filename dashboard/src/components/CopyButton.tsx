/** A button that copies a text and says so for a moment. */
import { Button } from '@mantine/core';
import { useState } from 'react';
import { copyText } from './copy';
import { CheckIcon, CopyIcon } from './icons';

const SAID_MS = 1_500;

export function CopyButton({ label, text }: { label: string; text: () => string }) {
  const [outcome, setOutcome] = useState<'copied' | 'failed' | null>(null);
  const copy = () => {
    copyText(text())
      .then(() => setOutcome('copied'), () => setOutcome('failed'))
      .finally(() => setTimeout(() => setOutcome(null), SAID_MS));
  };
  return (
    <Button
      size="compact-sm" variant="default" onClick={copy} data-testid="copy"
      leftSection={outcome === 'copied' ? <CheckIcon size={14} /> : <CopyIcon size={14} />}
    >
      {outcome === 'copied' ? 'Copied' : outcome === 'failed' ? 'Not allowed' : label}
    </Button>
  );
}
